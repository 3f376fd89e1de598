#!/usr/bin/env bash
# What must not stand in the sources: LibTorch outside its room, LibTorch's global generator, waiting by the clock in tests.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
bad=0
forbid() { # forbid REASON PATTERN PATHS…
  local reason=$1 pattern=$2 found
  shift 2
  found=$(git grep -nE "$pattern" -- "$@" | grep -v 'lint: allowed' || true)
  [ -z "$found" ] || { printf '%s\n%s\n' "$reason" "$found"; bad=1; }
}
forbid "LibTorch outside worker/trainer:" '#include [<"](torch|ATen|c10)/' 'common/*' 'controller/*' 'studioctl/*' 'worker/agent/*' 'worker/session/*' 'worker/data/*'
forbid "LibTorch's umbrella header compiles three times as long as the narrow ones:" '#include [<"]torch/torch.h' '*.cc' '*.h'
forbid "random numbers come from counters, never from LibTorch's global generator:" 'manual_seed|at::(rand|randn|randint|randperm|bernoulli|multinomial)(_like)?\(|\.(normal_|uniform_|bernoulli_|random_)\(' 'worker/trainer/*.cc'
forbid "a test waits for a condition, never for the clock:" 'sleep_for|usleep|absl::SleepFor|time\.sleep' '*_test.cc' 'tests/*.cc' 'tests/*.py'
exit $bad
