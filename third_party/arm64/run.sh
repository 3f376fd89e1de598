#!/bin/sh
# Runs an ARM64 program on a machine of another kind: run.sh PROGRAM ARGS… What the program starts is found by the
# kernel's binfmt_misc, and finds its libraries by the same variable.
# For tests of what no user-mode emulator does: they skip, saying so.
export STUDIO_EMULATED=1
export QEMU_LD_PREFIX='%{sysroot}'
if grep -qs '^enabled' /proc/sys/fs/binfmt_misc/qemu-aarch64; then exec "$@"; fi
# No binfmt_misc (an unprivileged container): this program runs, but no ARM64 program that it starts would.
exec '%{qemu}' "$@"
