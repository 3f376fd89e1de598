#!/usr/bin/env bash
# `bazel test ARGS`, then a closing line that counts test cases, not targets: N passed, N failed, N skipped.
# TESTLOGS: Bazel's link to the logs, for a configuration with links of its own.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
${BAZEL:-bazel} test --noshow_progress --test_summary=short "$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
case $code in 0 | 3 | 4) ;; *) printf '0 passed, 1 failed, 0 skipped\n'; exit "$code" ;; esac

passed=0 failed=0 skipped=0
while read -r target result _; do
  path=${target#//}
  xml=${TESTLOGS:-bazel-testlogs}/${path/://}/test.xml
  case $result in
    "(cached)" | PASSED) ;;
    *) # A target that crashed or timed out has no true XML.
      failed=$((failed + 1))
      continue
      ;;
  esac
  tests=$(sed -nE 's/^<testsuites tests="([0-9]+)".*/\1/p' "$xml" 2>/dev/null)
  if [ -z "$tests" ]; then # not GoogleTest
    passed=$((passed + 1))
    continue
  fi
  skips=$(grep -c 'result="skipped"' "$xml" || true)
  # What lacks, once for each reason: nobody opens the logs of a run that passed.
  grep -oE '<skipped message="[^"]*' "$xml" | sed -E "s|.*&#x0A;([^&]+).*|skipped: \1 ($target)|" | sort -u
  passed=$((passed + tests - skips))
  skipped=$((skipped + skips))
done < <(grep -E '^//[^ ]+ +(\(cached\) )?(PASSED|FAILED|TIMEOUT|FLAKY|NO STATUS|FAILED TO BUILD)' "$log" | sed 's/ (cached)//')
printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$code" = 0 ] || exit 1
