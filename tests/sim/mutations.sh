#!/usr/bin/env bash
# Switches off one protection after the other (tests/sim/mutations/*.patch) in a copy of the tree, and has the simulation
# look for the damage: each must be found within SEEDS (1000) seeds. A patch that no longer applies fails, too.
#   tests/sim/mutations.sh [NAME …]
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
root=$PWD
seeds=${SEEDS:-1000}
copy=$(mktemp -d)
trap '(cd "$copy" && "${BAZEL:-bazel}" shutdown) 2>/dev/null; rm -rf "$copy"' EXIT
git ls-files -z | xargs -0 cp -a --parents -t "$copy"
for link in .deps .bazelrc.local; do
  [ ! -e "$link" ] || ln -s "$root/$link" "$copy/$link"
done
cd "$copy" || exit 1
passed=0 failed=0
for patch in "$root"/tests/sim/mutations/*.patch; do
  name=$(basename "$patch" .patch)
  if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  if ! patch --silent -p1 <"$patch"; then
    echo "$name: the patch does not apply: the code moved on, bring tests/sim/mutations/$name.patch after it"
    failed=$((failed + 1))
    continue
  fi
  if ! "${BAZEL:-bazel}" build //tests/sim:studio-sim >build.log 2>&1; then
    tail -n 20 build.log
    echo "$name: does not build"
    failed=$((failed + 1))
  elif found=$(timeout 600 bazel-bin/tests/sim/studio-sim --seeds "1..$seeds" --first --stories 0); then
    echo "$name: NOT FOUND within $seeds seeds"
    failed=$((failed + 1))
  else
    echo "$name: found: $(grep -m 1 -E '^seed [0-9]+ violates' <<<"$found" || echo 'it crashed')"
    passed=$((passed + 1))
  fi
  patch --silent -R -p1 <"$patch"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
