#!/usr/bin/env bash
# On the machine with a CUDA card, in the folder that tools/pack_device.sh packed: ./run.sh [OUT_DIR [PART…]]. Wants python3
# with torch, for its libraries. Without a PART all of them, in this order:
# tests       every packed CUDA test; those that skip say why
# verify      studio-worker --verify
# workers     a CUDA worker and a CPU worker on one controller: jobs land by what they ask for, one for a Mac waits
# live        studioctl get shows a running job's tokens a second and how busy its card is
# memory      a job that may hold less than its micro batch takes: retried with half of it, same global batch
# agree       twenty bf16 losses of the card and of this machine's CPU within 1 %
# checkpoint  one made on the card goes on on the CPU, in float32, as if it had never been away
# adamw8bit   100 steps within 2 % of AdamW's losses
# 1b          a billion random weights: tokens a second, memory
# Goes on after a failure and ends with 1 then.
# shellcheck disable=SC2317 # parts are called by their names
set -uo pipefail
cd "$(dirname "$0")" || exit 1
out=$(realpath -m "${1:-out}")
shift || true
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(tests verify workers live memory agree checkpoint adamw8bit 1b)
mkdir -p "$out"
torch=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))') || exit 1
# The wheel's libraries find CUDA's by their own paths; ours find the wheel's by this.
export LD_LIBRARY_PATH=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} STUDIO_BITSANDBYTES=$PWD/bin
state=$(mktemp -d)
children=()
end_children() {
  local i
  for ((i = ${#children[@]} - 1; i >= 0; i--)); do
    kill -TERM "${children[i]}" 2>/dev/null || true
    wait "${children[i]}" 2>/dev/null || true
  done
  children=()
}
trap 'end_children; rm -rf "$state"' EXIT
code=0
wrong() { echo "WRONG: $*"; code=1; }
# expect NAME GOT WANTED
expect() { if [ "$2" = "$3" ]; then echo "ok: $1: $2"; else wrong "$1: $2, not $3"; fi; }

# controller: a new one, which STUDIO_CONTROLLER then names.
controller() {
  local folder=$state/controller-$RANDOM
  mkdir -p "$folder"
  bin/studio-controller --listen 127.0.0.1:0 --transfer-listen 127.0.0.1:0 --metrics-listen "" --state-dir "$folder/state" \
    >"$folder/out" 2>>"$out/controller.log" &
  children+=($!)
  for _ in $(seq 100); do grep -q 'listening on' "$folder/out" && break; sleep 0.1; done
  STUDIO_CONTROLLER=$(sed -n 's/^listening on //p' "$folder/out")
  export STUDIO_CONTROLLER
}
# worker NAME [VARIABLE=VALUE…]
worker() {
  local name=$1
  shift
  env "$@" bin/studio-worker --controller "$STUDIO_CONTROLLER" --state-dir "$state/$name-$RANDOM" \
    --trainer bin/studio-trainer-cuda >/dev/null 2>>"$out/worker-$name.log" &
  children+=($!)
}
# train NAME [ARGUMENT…]: SmolLM2's shape by the trainer alone, into $out/NAME.json and $state/NAME.
train() {
  local name=$1
  shift
  bin/studio-trainer-cuda --job smollm2.pb.txt --out "$state/$name" --data-dir "$state/data" "$@" >"$out/$name.txt" 2>&1 ||
    { wrong "$name ended badly"; tail -n 5 "$out/$name.txt"; return 1; }
  cp "$state/$name/summary.json" "$out/$name.json"
}
# of JOB.json EXPRESSION: of the record, in Python.
of() { python3 -c 'import json, sys; job = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"; }

tests() {
  local test name
  mkdir -p "$state/tests"
  for test in tests/*; do
    name=$(basename "$test")
    TEST_TMPDIR=$state/tests timeout 150 "$test" --gtest_color=no >"$out/$name.log" 2>&1 || wrong "$name"
    echo "$name: $(grep -cE '^\[       OK' "$out/$name.log") passed," \
      "$(grep -cE '^\[  FAILED  \] .*ms\)' "$out/$name.log") failed, $(grep -cE '^\[  SKIPPED \] .*ms\)' "$out/$name.log") skipped"
    grep -E 'Failure$' -A 4 "$out/$name.log" | head -n 20
    grep -E 'Skipped$' -A 1 "$out/$name.log" | grep -vE 'Skipped$|^--' | sort | uniq -c
  done
}

verify() { bin/studio-worker --trainer bin/studio-trainer-cuda --verify | tee "$out/verify.txt" || wrong "--verify"; }

workers() {
  local backend
  controller
  worker card
  worker host CUDA_VISIBLE_DEVICES=
  for backend in CUDA CPU; do
    bin/studioctl submit --follow smollm2.pb.txt --set "resources.backend=$backend" --set training.max_steps=5 >"$out/on-$backend.txt" ||
      wrong "the job for $backend"
  done
  bin/studioctl submit smollm2.pb.txt --set resources.backend=MPS
  bin/studioctl workers -o wide | tee "$out/workers.txt"
  bin/studioctl workers -o json >"$out/workers.json"
  for job in 1 2 3; do bin/studioctl get "j$job" -o json >"$out/workers-j$job.json"; done
  expect "workers" "$(grep -c READY "$out/workers.txt")" 2
  expect "jobs of different workers" "$(python3 - "$out"/workers-j[12].json <<'END'
import json, sys
jobs = [json.load(open(path)) for path in sys.argv[1:]]
print([job["state"] for job in jobs], len({job["attempts"][0]["ranks"][0]["worker_id"] for job in jobs}))
END
  )" "['SUCCEEDED', 'SUCCEEDED'] 2"
  expect "the job for a Mac" "$(of "$out/workers-j3.json" 'job["state"], job["message"]')" \
    "('PENDING', 'no worker has a device of backend MPS (there are CPU, CUDA)')"
  end_children
}

live() {
  local id seen=
  controller
  worker card
  id=$(bin/studioctl submit smollm2.pb.txt -o name --set training.max_steps=2000 --set resources.backend=CUDA) || wrong "submit"
  for _ in $(seq 300); do
    bin/studioctl get "$id" >"$out/live.txt"
    if grep -q '^Utilization' "$out/live.txt"; then
      seen=yes
      break
    fi
    sleep 0.2
  done
  grep -E '^(State|Step|Speed|Utilization|Peak memory)' "$out/live.txt"
  expect "utilization shown" "$seen" yes
  bin/studioctl cancel "$id"
  end_children
}

memory() {
  local sets=(--set training.batch_size=64 --set training.max_steps=4 --set resources.backend=CUDA) share
  # What the job takes with its micro batch and with half of it; the limit lies between.
  train whole-batch "${sets[@]}" || return
  train half-batch "${sets[@]}" --set training.batch_size=32 --set training.grad_accumulation=2 || return
  share=$(python3 - "$out/whole-batch.json" "$out/half-batch.json" <<'END'
import json, sys, torch
peaks = [json.load(open(path))["peak_memory_bytes"] for path in sys.argv[1:]]
print(round(sum(peaks) / 2 / torch.cuda.get_device_properties(0).total_memory, 4))
END
  )
  echo "limit: $share of the card"
  controller
  worker capped "PYTORCH_CUDA_ALLOC_CONF=per_process_memory_fraction:$share"
  bin/studioctl submit --follow smollm2.pb.txt "${sets[@]}" | tail -n 4 || wrong "the capped job"
  bin/studioctl get j1 -o json >"$out/capped.json"
  end_children
  expect "attempts" "$(of "$out/capped.json" '[(a.get("reason", ""), a["plan"]["micro"], a["plan"]["accumulation"], a["plan"]["global"]) for a in job["attempts"]]')" \
    "[('DEVICE_OOM', 64, 1, 64), ('', 32, 2, 64)]"
  expect "state" "$(of "$out/capped.json" 'job["state"]')" SUCCEEDED
  echo "losses: $(of "$out/capped.json" 'job["progress"]["loss"]') capped, $(of "$out/whole-batch.json" 'job["losses"][-1]') not"
}

agree() {
  train card --set resources.backend=CUDA && train host --set resources.backend=CPU &&
    { python3 compare.py "$out/card.json" "$out/host.json" 0.01 | tail -n 1 || wrong "card and host differ"; }
}

checkpoint() {
  local exact=(--set environment.mixed_precision_dtype=FLOAT32 --set architecture.backbone_dtype=FLOAT32
    --set training.max_steps=8 --set training.save_steps=4)
  train whole "${exact[@]}" --set resources.backend=CUDA || return
  mkdir -p "$state/handed/checkpoints"
  cp -r "$state/whole/checkpoints/step-4" "$state/handed/checkpoints/" || { wrong "no checkpoint of step 4"; return; }
  train handed "${exact[@]}" --set resources.backend=CPU --resume "$state/handed" || return
  expect "first step on the CPU" "$(of "$out/handed.json" 'job["first_step"]')" 4
  python3 compare.py "$out/whole.json" "$out/handed.json" 0.0001 || wrong "the losses after the checkpoint differ"
}

adamw8bit() {
  local optimizer
  for optimizer in ADAMW ADAMW8BIT; do
    # It steps fp32 weights.
    train "$optimizer" --set architecture.backbone_dtype=FLOAT32 --set resources.backend=CUDA --set training.max_steps=100 --set "training.optimizer=$optimizer" || return
  done
  python3 compare.py "$out/ADAMW8BIT.json" "$out/ADAMW.json" 0.02 | tail -n 4 || wrong "8-bit AdamW's losses"
}

1b() {
  bin/studio-trainer-cuda --job 1b.pb.txt --out "$state/1b" --data-dir "$state/data" >"$out/1b.txt" 2>&1 || wrong "1b"
  tail -n 12 "$out/1b.txt"
  cp "$state/1b/summary.json" "$out/1b.json"
}

nvidia-smi --query-gpu=name,driver_version --format=csv,noheader || true
for part in "${parts[@]}"; do
  begin=$SECONDS
  echo "== $part"
  "$part"
  echo "== $part: $((SECONDS - begin)) s"
done
[ $code = 0 ] && echo "all is well"
exit $code
