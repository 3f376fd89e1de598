#!/usr/bin/env bash
# Builds, runs or removes one of the images, by docker or podman, whichever answers.
#   deploy/docker/docker.sh build|run|clean arm64-cuda|x86_64-cuda|x86_64-cpu
# DOCKER_BUILD_FLAGS: more words for the build (--build-arg RUN_BASE=…, --network=host, --isolation=chroot).
# LIBTORCH: another one of third_party/pins.sh, for the build.
# run starts a worker of STUDIO_CONTROLLER (127.0.0.1:7070) on this machine's network; DOCKER_RUN_FLAGS and
# DOCKER_COMMAND change that. DOCKER_GPU=none: no card is handed in.
set -euo pipefail
cd "$(dirname "$0")/../.."
action=$1 flavour=$2
image=studio:$flavour
engine=
for candidate in docker podman; do
  if command -v "$candidate" >/dev/null && "$candidate" info >/dev/null 2>&1; then engine=$candidate; break; fi
done
[ -n "$engine" ] || { echo "docker.sh: neither docker nor podman answers here: install one, or start docker's daemon" >&2; exit 1; }
platform=linux/amd64
case $flavour in arm64-*) platform=linux/arm64 ;; esac
read -ra build_flags <<<"${DOCKER_BUILD_FLAGS:-}"
read -ra run_flags <<<"${DOCKER_RUN_FLAGS:-}"
read -ra command <<<"${DOCKER_COMMAND:-}"

case $action in
  build)
    [ -z "${LIBTORCH:-}" ] || build_flags+=(--build-arg "LIBTORCH=$LIBTORCH")
    [ "$engine" != podman ] || build_flags+=(--format docker)
    "$engine" build --platform "$platform" "${build_flags[@]}" -f "deploy/docker/Dockerfile.$flavour" -t "$image" .
    ;;
  run)
    case ${DOCKER_GPU:-all}/$engine/$flavour in
      none/*) ;;
      */docker/*-cuda) run_flags+=(--gpus all) ;;
      */podman/*-cuda) run_flags+=(--device nvidia.com/gpu=all) ;;
    esac
    exec "$engine" run --rm --network host --shm-size 1g --volume "studio-$flavour:/var/lib/studio" \
      --env STUDIO_CONTROLLER="${STUDIO_CONTROLLER:-127.0.0.1:7070}" "${run_flags[@]}" "$image" "${command[@]}"
    ;;
  clean)
    "$engine" image rm --force "$image"
    "$engine" volume rm --force "studio-$flavour"
    ;;
  *) echo "docker.sh: $action is none of build, run, clean" >&2; exit 2 ;;
esac
