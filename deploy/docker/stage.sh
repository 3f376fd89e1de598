#!/usr/bin/env bash
# Builds the release programs of one platform and lays the image's tree: programs, LibTorch's libraries and what those
# link, nothing else. Runs inside the image's build stage, and as well on any Debian.
#   deploy/docker/stage.sh x86_64|arm64 cpu|cuda OUT      lays OUT/bin and OUT/lib
# Another machine's tree is cross-compiled: only ARM64 out of x86-64.
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=$1 flavour=$2 out=$(realpath -m "$3")
here=$(uname -m)
[ "$here" != aarch64 ] || here=arm64
want=(build) config=(--config=dist) bin=bazel-bin
if [ "$arch" != "$here" ]; then
  [ "$arch" = arm64 ] || { echo "stage: $arch cannot be built on $here: build it on an $arch machine" >&2; exit 1; }
  want+=(arm64) config+=(--config=arm64) bin=bazel-arm64-bin
fi
[ "$flavour" = cpu ] || want+=(cuda)
tools/setup.sh "${want[@]}"

trainer=studio-trainer
[ "$flavour" = cpu ] || trainer=studio-trainer-cuda
programs=(controller/studio-controller worker/agent/studio-worker "worker/trainer/$trainer" worker/data/studio-dataprep
  studioctl/studioctl)
targets=()
for program in "${programs[@]}"; do targets+=("//${program%/*}:${program##*/}"); done
"${BAZEL:-bazel}" build --noshow_progress "${config[@]}" "${targets[@]}"

if [ "$arch" = "$here" ]; then
  site=$(echo .deps/torch/lib/python3*/site-packages)
else
  site=.deps/arm64/torch
fi
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib/torch/lib"
for program in "${programs[@]}"; do
  install -m 755 "$bin/$program" "$out/bin/"
done
# Beside each other as in the wheels: LibTorch's libraries find CUDA's by $ORIGIN/../../nvidia/….
for library in "$site"/torch/lib/*.so*; do
  case $flavour/$(basename "$library") in
    */libtorch_python.so | */libshm.so) continue ;; # Python's side
    cpu/libtorch_cuda* | cpu/libc10_cuda* | cpu/libcaffe2_nvrtc* | cpu/libtorch_nvshmem*) continue ;;
  esac
  cp -L "$library" "$out/lib/torch/lib/"
done
(cd "$site" && find nvidia -name '*.so*' -path '*/lib/*' -print0 |
  if [ "$flavour" = cpu ]; then grep -zE '/lib(cudart|cupti)\.so'; else cat; fi |
  xargs -0 cp -L --parents -t "$out/lib")
patchelf --force-rpath --set-rpath "\$ORIGIN/../lib/torch/lib" "$out/bin/$trainer"

# What is neither here nor in the base image's glibc and libstdc++ would be missing at the first start.
missing=$(for file in "$out"/bin/* "$out"/lib/torch/lib/libtorch_cpu.so; do
  objdump -p "$file" | awk '$1 == "NEEDED" { print $2 }'
done | sort -u | grep -vE '^(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|atomic)\.so|ld-linux)' | while read -r library; do
  [ -n "$(find "$out/lib" -name "$library" -print -quit)" ] || echo "$library"
done)
[ -z "$missing" ] || { echo "stage: not in the tree: $missing" >&2; exit 1; }
du -sh "$out" >&2
