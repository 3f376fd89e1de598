#!/bin/sh
# Lays what --config=arm64 builds against on an x86-64 machine: an ARM64 sysroot of this distribution's own packages and
# LibTorch's aarch64 wheel. Called by tools/setup.sh, which holds the cache's lock.
#   tools/setup_arm64.sh CACHE LIBTORCH [cuda]      lays .deps/arm64/{sysroot,torch}
# Packages are unpacked, not installed: no maintainer script runs, so this needs neither root nor emulation.
set -eu
cd "$(dirname "$0")/.."
. third_party/pins.sh
cache=$1 libtorch=$2 cuda=${3:-}
say() { printf 'setup: %s\n' "$*" >&2; }

# What the build takes from the distribution, for the other machine. rustc's standard library must be the host's version.
packages="libc6-dev libgcc-s1 libgomp1 libstd-rust-web-dev $(grep -E -- '-dev$' tools/apt-packages.txt | tr '\n' ' ')"
# The host's protoc writes what the sysroot's headers compile, so a new version of any of them is another sysroot.
# shellcheck disable=SC2086 # a list of words
key=$(dpkg-query -W -f '${Package} ${Version}\n' $packages g++-aarch64-linux-gnu 2>/dev/null | sha256sum | cut -c1-12)
sysroot=$cache/arm64-sysroot-$key
if [ ! -e "$sysroot/.done" ]; then
  say "fetching the ARM64 sysroot"
  apt=$cache/arm64-apt
  rm -rf "$sysroot"
  mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial" "$sysroot/usr/lib"
  : >"$apt/status"
  # An apt of its own, so that this machine's stays of one architecture.
  options="-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State=$apt/state -o Dir::State::status=$apt/status
    -o Dir::Cache=$apt/cache -o APT::Sandbox::User=$(id -un) -o APT::Get::List-Cleanup=0"
  # shellcheck disable=SC2086
  apt-get $options update -qq >"$apt/log" 2>&1 || { cat "$apt/log" >&2; exit 1; }
  # shellcheck disable=SC2086
  apt-get $options install --download-only --yes -qq --no-install-recommends $packages >"$apt/log" 2>&1 || {
    cat "$apt/log" >&2
    say "these packages for arm64 cannot be had: does /etc/apt/sources.list name a mirror that has arm64 (Ubuntu: ports)?"
    exit 1
  }
  ln -s usr/lib "$sysroot/lib"
  for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink --exclude=./usr/share --no-same-owner -C "$sysroot"
  done
  # A link to /lib/… means the sysroot's.
  find "$sysroot" -type l -lname '/*' | while read -r link; do
    target=$sysroot$(readlink "$link")
    ln -sfn "$(realpath -m --relative-to="$(dirname "$link")" "$target")" "$link"
  done
  rm -rf "$apt"
  touch "$sysroot/.done"
fi

libtorch_pin linux-aarch64 "$libtorch" || { say "LIBTORCH=$libtorch has no entry for linux-aarch64 in third_party/pins.sh"; exit 1; }
torch=$cache/torch-$libtorch-aarch64
pip_for_arm64() {
  platforms=
  for glibc in $LIBTORCH_ARM64_GLIBC; do platforms="$platforms --platform manylinux_${glibc}_aarch64"; done
  [ -x "$cache/convert/bin/pip" ] || python3 -m venv "$cache/convert"
  # shellcheck disable=SC2086
  "$cache/convert/bin/pip" install -q --disable-pip-version-check --only-binary=:all: $platforms --platform manylinux2014_aarch64 \
    ${LIBTORCH_INDEX:+--extra-index-url "$LIBTORCH_INDEX"} --python-version 3.11 --upgrade --target "$torch" "$@"
}
if [ ! -e "$torch/.done" ]; then
  say "fetching LibTorch $libtorch for ARM64"
  rm -rf "$torch"
  # shellcheck disable=SC2086
  pip_for_arm64 --no-deps "torch==$libtorch" $LIBTORCH_CPU_WHEELS
  touch "$torch/.done"
fi
# Only an image holds them: no emulator has a card.
if [ -n "$cuda" ] && [ ! -e "$torch/.done-cuda" ]; then
  say "fetching LibTorch's CUDA libraries for ARM64"
  # shellcheck disable=SC2086
  pip_for_arm64 "torch==$libtorch" $LIBTORCH_CUDA_WHEELS
  touch "$torch/.done-cuda"
fi

mkdir -p .deps/arm64
ln -sfn "$sysroot" .deps/arm64/sysroot
ln -sfn "$torch" .deps/arm64/torch

# The kernel starts ARM64 programs by itself where binfmt_misc is mounted; elsewhere tests that start programs are skipped.
misc=/proc/sys/fs/binfmt_misc
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
if [ ! -e $misc/qemu-aarch64 ] && [ -e /proc/sys/fs ]; then
  [ -e $misc/register ] || $sudo mount -t binfmt_misc none $misc 2>/dev/null || true
  # Debian 12 registers by binfmt-support, later releases by systemd's own service.
  $sudo update-binfmts --enable qemu-aarch64 2>/dev/null || true
fi
[ -e $misc/qemu-aarch64 ] || say "no binfmt_misc here: ARM64 programs cannot start others"
