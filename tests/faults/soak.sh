#!/usr/bin/env bash
# `make soak`: real faults on real processes (soak.cc), and a row in docs/soak.md for what came of them.
#   FAULTS=100 SEED=7 tests/faults/soak.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
faults=${FAULTS:-100} seed=${SEED:-$RANDOM$RANDOM}
page=docs/soak.md
revision=${STUDIO_REVISION:-$(git rev-parse --short HEAD)}
"${BAZEL:-bazel}" build --noshow_progress //tests/faults:soak
log=$(mktemp)
trap 'rm -f "$log"' EXIT
code=0
"${BAZEL:-bazel}" run --noshow_progress --ui_event_filters=-info //tests/faults:soak -- "$faults" "$seed" >"$log" || code=$?
cat "$log"
result=$(grep -E '^[0-9]+ jobs, all SUCCEEDED' "$log" || echo "FAILED")
if [ ! -e "$page" ]; then
  cat >"$page" <<'HEAD'
# Real faults so far

`make soak` (FAULTS=100, SEED=…) kills and stops the controller, workers, trainers and clients, cuts and holds connections, and
loses packets (one worker has a network namespace of its own, where this user may make one); then lets everything heal and judges: every
acknowledged job there once and SUCCEEDED, steps never back, the same result, `studio-controller verify` without a problem. Each run adds a row.

| date | revision | seed | faults | result |
|---|---|---|---|---|
HEAD
fi
echo "| $(date -u +%F) | $revision | $seed | $faults | $result |" >>"$page"
exit "$code"
