#!/usr/bin/env bash
# The simulation as `make sim` and `make test-all` run it: seeds 1 to SEEDS (20000), then the mutations.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
"${BAZEL:-bazel}" build //tests/sim:studio-sim || exit 1
passed=0 failed=0
if bazel-bin/tests/sim/studio-sim --seeds "1..${SEEDS:-20000}" --jobs "$(nproc 2>/dev/null || echo 2)"; then
  passed=1
else
  failed=1
fi
counts=$(SEEDS=1000 tests/sim/mutations.sh | tee /dev/stderr | tail -n 1)
passed=$((passed + $(cut -d' ' -f1 <<<"$counts"))) failed=$((failed + $(cut -d' ' -f3 <<<"$counts")))
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
