#!/bin/sh
# Our numbers against Transformers and PEFT. Needs tools/setup.sh build model oracle:
#   tests/parity/run.sh          what `make test` runs: minutes
#   tests/parity/run.sh --full   what `make test-all` runs: twenty training steps of the real model, more random models
# The last line counts the checks of all scripts; the exit code is 1 when one failed.
set -u
cd "$(dirname "$0")/../.." || exit 1
python=.deps/oracle/bin/python
# OpenMP's threads wait asleep: spinning beside other work they take ten times as long.
export OMP_WAIT_POLICY=PASSIVE
export PYTHONDONTWRITEBYTECODE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1
${BAZEL:-bazel} build --noshow_progress //tests/parity:dump //tests/parity:optimizer_steps //worker/data:tokenize_tool //worker/trainer:studio-trainer \
  //controller:studio-controller //worker/agent:studio-worker //worker/data:studio-dataprep //studioctl || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
broken=0
run() {
  echo "== $*"
  # shellcheck disable=SC2086 # a list of words
  "$python" "tests/parity/$1" ${2:-} 2>&1 | tee "$log.one"
  line=$(grep -E '^[a-z0-9_]+: [0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log.one" | tail -1)
  rm -f "$log.one"
  # A script that ended without its closing line broke off.
  if [ -n "$line" ]; then echo "$line" >>"$log"; else broken=$((broken + 1)); fi
}
run tokenizer_test.py
run chat_template_test.py
run tiny_llamas_test.py
run real_model_test.py
run adamw8bit_test.py
if [ "${1:-}" = --full ]; then
  run tiny_llamas_test.py "--cases 24 --seed 8"
  run training_test.py "--steps 20"
  run ddp_test.py "--steps 10"
  run ranks_test.py "--steps 20"
else
  run training_test.py "--steps 3"
fi
awk -v broken="$broken" '{ gsub(",", ""); passed += $2; failed += $4; skipped += $6 }
  END { failed += broken; printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit failed > 0 || passed == 0 }' "$log"
