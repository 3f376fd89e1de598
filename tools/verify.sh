#!/usr/bin/env bash
# `studio-worker --verify` of the programs under BIN (default bazel-bin), with its report as a row of docs/verification.md.
#   tools/verify.sh [BIN [WHERE]]      WHERE: what tools/record.sh calls the machine
# QEMU_LD_PREFIX is passed on: ARM64 programs on another machine. Ends as the report does.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
bin=${1:-bazel-bin}
report=$(mktemp)
trap 'rm -f "$report"' EXIT
"$bin/worker/agent/studio-worker" --trainer "$bin/worker/trainer/studio-trainer" --verify | tee "$report"
code=${PIPESTATUS[0]}
# The checks alone, one line each, in one cell of the table.
cell=$(grep -E '^(PASS|FAIL)  |^this machine ' "$report" | sed -E 's/^(PASS|FAIL)  /\1 /; s/\|/\\|/g' |
  awk '{ printf "%s%s", line_break, $0; line_break = "<br>" }')
tools/record.sh "studio-worker --verify" "${cell:-FAILED: no report, exit code $code}" ${2:+"$2"}
failed=$(grep -c '^FAIL  ' "$report")
[ "$code" = 0 ] || [ "$failed" != 0 ] || failed=1 # it ended before it could say what failed
printf '%d passed, %d failed, 0 skipped\n' "$(grep -c '^PASS  ' "$report")" "$failed"
exit "$code"
