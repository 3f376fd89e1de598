#!/usr/bin/env bash
# Runs the parts of `make test` (or, with --all, of `make test-all`), prints the minutes of each, and ends with one line:
# N passed, N failed, N skipped. A part says its own counts in such a line; one that fails without counts as one failure.
#   tools/test.sh [--all] [PART …]
#   TAGS=requires_cuda tools/test.sh
#   LIBTORCH=2.7.1 tools/test.sh      against another LibTorch of third_party/pins.sh
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
all=
if [ "${1:-}" = --all ]; then
  all=1
  shift
fi
only=" $* "
STUDIO_REVISION=$(git rev-parse --short HEAD 2>/dev/null || echo -)
export STUDIO_REVISION
passed=0 failed=0 skipped=0
times=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

part() { # part NAME COMMAND…
  local name=$1 start=$SECONDS code counts
  shift
  if [ "$only" != "  " ] && [[ $only != *" $name "* ]]; then return; fi
  printf '\n=== %s\n' "$name"
  "$@" 2>&1 | tee "$log"
  code=${PIPESTATUS[0]}
  counts=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
  if [ -n "$counts" ]; then
    # shellcheck disable=SC2046 # three numbers
    set -- $(tr -dc '0-9 ' <<<"$counts")
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
    [ "$code" = 0 ] || [ "$2" != 0 ] || failed=$((failed + 1))
  elif [ "$code" = 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
  if [ -n "$all" ]; then
    local what=passed
    [ "$code" = 0 ] || what=FAILED
    tools/record.sh "make test-all: $name" "$what${counts:+: ${counts}}" || failed=$((failed + 1))
  fi
  times+=("$(printf '%-15s %4.1f min%s' "$name" "$(echo "($SECONDS - $start) / 60" | bc -l 2>/dev/null || awk "BEGIN{print ($SECONDS - $start) / 60}")" "$([ "$code" = 0 ] || echo '  FAILED')")")
}

# Only the tests that carry one of these Bazel tags (docs/platforms.md), manual ones too. They skip where hardware lacks.
if [ -n "${TAGS:-}" ]; then
  # The CUDA flavour links against wheels that set-up otherwise fetches only where a card is.
  case $TAGS in
    *cuda* | *gpu*) part setup tools/setup.sh build cuda ;;
    *) part setup tools/setup.sh build ;;
  esac
  pattern="\\b(${TAGS//[ ,]/|})\\b"
  mapfile -t targets < <("${BAZEL:-bazel}" query "attr(tags, \"$pattern\", tests(//...))" 2>/dev/null)
  if [ ${#targets[@]} = 0 ]; then
    echo "no test carries the tag $TAGS" >&2
    exit 1
  fi
  part tagged tools/bazel_test.sh --test_tag_filters= "${targets[@]}"
  printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
  [ "$failed" = 0 ]
  exit
fi

part setup tools/setup.sh build model oracle dev
part unit tools/bazel_test.sh //...
# After the build: clang-tidy reads generated headers.
part lint env ${all:+LINT_ALL=1} tools/lint.sh
part asan tools/bazel_test.sh --config=asan --test_tag_filters=-torch,-manual,-no-asan --build_tests_only -- //... -//worker/trainer/...
part fuzz tools/fuzz.sh "${FUZZ_SECONDS:-30}"
part parity tests/parity/run.sh ${all:+--full}
part fine-tune tools/quickstart.sh
if [ -n "$all" ]; then part simulation tests/sim/run.sh; fi
if [ -n "$all" ]; then part soak tests/faults/soak.sh; fi
if [ -n "$all" ]; then part verify tools/verify.sh; fi
# What stands on LibTorch, on the oldest and the newest; Bazel has the rest of //... done. The oracle stays one.
if [ -n "$all" ]; then
  # shellcheck source=third_party/pins.sh
  . third_party/pins.sh
  for version in "$LIBTORCH_OLDEST" "$LIBTORCH_NEWEST"; do
    part "libtorch-$version" env LIBTORCH="$version" tools/test.sh setup unit parity fine-tune
  done
  # The checkout's own again.
  tools/setup.sh build
fi
if [ -n "$all" ] && [ "$(uname -m)" = x86_64 ]; then part arm64 make --no-print-directory arm64-test; fi

printf '\nminutes of each part:\n'
printf '  %s\n' "${times[@]}"
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ]
