#!/usr/bin/env bash
# `make arm64-test`: cross-compiles every program and test for ARM64, shows that they are ARM64's, runs the suite under
# emulation, lets x86-64 and ARM64 train the same job, continue each other's checkpoints and share a controller, and verifies
# the emulated machine. Prints the minutes of each part and ends with N passed, N failed, N skipped. After `tools/setup.sh arm64`.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
bazel=${BAZEL:-bazel}
case $(uname -m) in
  aarch64 | arm64) echo "this machine is ARM64: \`make test\` is the test"; exit 1 ;;
esac
passed=0 failed=0 skipped=0
times=()
where="aarch64, emulated on $(uname -m), CPU"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# timed NAME COMMAND…: with its minutes; its output's closing line is added up, or its exit code counts as one.
timed() {
  local name=$1 start=$SECONDS code counts
  shift
  printf '\n=== ARM64: %s\n' "$name"
  "$@" 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  read -ra counts < <(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1 | tr -dc '0-9 \n')
  if [ ${#counts[@]} != 3 ]; then counts=($((code == 0)) $((code != 0)) 0); fi
  passed=$((passed + counts[0])) failed=$((failed + counts[1])) skipped=$((skipped + counts[2]))
  times+=("$(printf '%-10s %5.1f min' "$name" "$(awk "BEGIN { print ($SECONDS - $start) / 60 }")")")
  return "$code"
}

build() { # Tests too: a library named by itself would be compiled twice.
  "$bazel" build --noshow_progress --config=arm64 "${programs[@]}" "${tests[@]}"
}

# `file` says of every program and test whose it is.
are_arm64() {
  local target path wrong=0 right=0
  for target in "${programs[@]}" "${tests[@]}"; do
    path=bazel-arm64-bin/${target#//}
    if file -Lb "${path/://}" | grep -q '^ELF 64-bit LSB .*, ARM aarch64'; then
      right=$((right + 1))
    else
      echo "not an ARM64 program: ${path/://}: $(file -Lb "${path/://}")"
      wrong=$((wrong + 1))
    fi
  done
  echo "bazel-arm64-bin/worker/trainer/studio-trainer: $(file -Lb bazel-arm64-bin/worker/trainer/studio-trainer)"
  printf '%d passed, %d failed, 0 skipped\n' "$right" "$wrong"
  [ "$wrong" = 0 ] && [ "$right" -gt 0 ]
}

# Whether the kernel hands ARM64 programs to the emulator by itself. Where not, nothing that starts one can run.
hands_over() { grep -qs '^enabled' /proc/sys/fs/binfmt_misc/qemu-aarch64; }

suite() {
  local target reason left_out=() out=0 counts code
  while read -r target reason; do
    case $target in '' | '#'*) continue ;; esac
    echo "skipped: $target: $reason"
    left_out+=("-$target")
  done <tests/arm64/not_emulated.txt
  if ! hands_over; then
    # These start ARM64 programs, which only the kernel could hand to the emulator.
    while read -r target; do
      case " ${left_out[*]} " in *" -$target "*) continue ;; esac
      echo "skipped: $target: starts ARM64 programs, and binfmt_misc cannot be mounted here"
      left_out+=("-$target")
    done < <("$bazel" query --noshow_progress 'rdeps(//..., //common/env:posix_launcher) intersect tests(//...)' 2>/dev/null)
  fi
  out=${#left_out[@]}
  # Emulation is some twenty times slower: the limits of time are not those of the machine (common/time/patience.h).
  TESTLOGS=bazel-arm64-testlogs tools/bazel_test.sh --config=arm64 --test_timeout=3600 -- "${tests[@]}" "${left_out[@]}" >"$log.suite" 2>&1
  code=$?
  grep -vE '^[0-9]+ passed, ' "$log.suite"
  read -ra counts < <(tail -n 1 "$log.suite" | tr -dc '0-9 \n')
  rm -f "$log.suite"
  printf '%d passed, %d failed, %d skipped\n' "${counts[0]:-0}" "${counts[1]:-1}" "$((${counts[2]:-0} + out))"
  return "$code"
}

both() { # x86-64 and ARM64 programs in one test
  if ! hands_over; then
    echo "skipped: //tests/arm64/...: starts ARM64 programs, and binfmt_misc cannot be mounted here"
    echo "0 passed, 0 failed, 2 skipped"
    return 0
  fi
  # Never from the cache: Bazel does not see the ARM64 programs as inputs.
  tools/bazel_test.sh --test_tag_filters= --nocache_test_results --test_output=streamed --test_env=STUDIO_EMULATED=1 \
    --test_env=STUDIO_ARM64_BIN="$(realpath bazel-arm64-bin)" --test_env=QEMU_LD_PREFIX="$(realpath .deps/arm64/sysroot)" \
    --test_timeout=3600 //tests/arm64:exchange_test //tests/arm64:two_machines_test
}

verify() {
  if ! hands_over; then
    echo "skipped: studio-worker --verify: starts ARM64 programs, and binfmt_misc cannot be mounted here"
    echo "0 passed, 0 failed, 1 skipped"
    return 0
  fi
  QEMU_LD_PREFIX=$(realpath .deps/arm64/sysroot) tools/verify.sh bazel-arm64-bin "$where"
}

mapfile -t programs < <("$bazel" query --noshow_progress 'kind(cc_binary, //...) except attr(tags, manual, //...)' 2>/dev/null)
mapfile -t tests < <("$bazel" query --noshow_progress 'kind(cc_test, //...) except attr(tags, manual, //...)' 2>/dev/null)
if [ ${#programs[@]} = 0 ] || [ ${#tests[@]} = 0 ]; then
  echo "bazel query found no targets: run tools/setup.sh arm64, and look at what \`bazel query //...\` says"
  echo "0 passed, 1 failed, 0 skipped"
  exit 1
fi

if timed build build; then
  timed file are_arm64
  timed suite suite
  timed both both
  timed verify verify
fi
printf '\nminutes of each part, ARM64 emulated on %s:\n' "$(uname -m)"
printf '  %s\n' "${times[@]}"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
result=passed
[ "$failed" = 0 ] || result=FAILED
minutes=$(printf '%s, ' "${times[@]}" | tr -s ' ' | sed 's/, $//')
tools/record.sh "make arm64-test" "$result: $passed passed, $failed failed, $skipped skipped; $minutes" "$where"
[ "$failed" = 0 ]
