# shellcheck shell=sh
# Sourced by third_party/hf's build: cargo's flags for another machine. Debian keeps each machine's standard library in its
# own package, so rustc is told where the sysroot has it; build scripts and macros still use the host's.
export CARGO_BUILD_TARGET=aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS='--sysroot=%{sysroot}/usr'
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CFLAGS_aarch64_unknown_linux_gnu='--sysroot=%{sysroot}'
