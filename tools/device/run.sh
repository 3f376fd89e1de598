#!/usr/bin/env bash
# On the GPU machine, in the unpacked folder: ./run.sh [OUT_DIR]. Wants python3 with torch, for its libraries.
# 1. Probe. 2. SmolLM2's shape through controller, agent and CUDA trainer. 3. The same job on this machine's CPU, by the
# same trainer alone: twenty losses within 1 %. 4. A billion random weights by the trainer alone.
set -euo pipefail
cd "$(dirname "$0")"
out=$(realpath -m "${1:-out}")
mkdir -p "$out"
torch=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))')
# The wheel's libraries find CUDA's by their own paths; ours find the wheel's by this.
export LD_LIBRARY_PATH=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
state=$(mktemp -d)
children=()
# shellcheck disable=SC2317 # by the trap
cleanup() {
  for ((i = ${#children[@]} - 1; i >= 0; i--)); do
    kill -TERM "${children[i]}" 2>/dev/null || true
    wait "${children[i]}" 2>/dev/null || true
  done
  rm -rf "$state"
}
trap cleanup EXIT
code=0

echo "== probe"
bin/studio-trainer-cuda --probe | tee "$out/probe.txt"
grep -q 'CUDA' "$out/probe.txt" || { echo "the trainer sees no CUDA device" >&2; code=1; }

echo "== SmolLM2's shape through controller, agent and CUDA trainer"
bin/studio-controller --listen 127.0.0.1:0 --transfer-listen 127.0.0.1:0 --metrics-listen "" --state-dir "$state/controller" \
  >"$state/controller.out" 2>"$out/controller.log" &
children+=($!)
for _ in $(seq 100); do grep -q 'listening on' "$state/controller.out" && break; sleep 0.1; done
STUDIO_CONTROLLER=$(sed -n 's/^listening on //p' "$state/controller.out")
export STUDIO_CONTROLLER
bin/studio-worker --controller "$STUDIO_CONTROLLER" --state-dir "$state/worker" --trainer bin/studio-trainer-cuda \
  >/dev/null 2>"$out/worker.log" &
children+=($!)
bin/studioctl submit --follow --set resources.backend=CUDA smollm2.pb.txt || code=1
bin/studioctl get j1 -o json >"$out/job.json" || code=1
bin/studioctl logs j1 >"$out/job.log" || true
summary=$(find "$state/worker/attempts" -name summary.json | head -n 1)
[ -z "$summary" ] || cp "$summary" "$out/through-the-agent.json"

echo "== the same on the CPU and on the GPU, by the trainer alone"
for backend in CPU CUDA; do
  rm -rf "${state:?}/$backend"
  bin/studio-trainer-cuda --job smollm2.pb.txt --out "$state/$backend" --data-dir "$state/data" \
    --set "resources.backend=$backend" >"$out/$backend.txt" 2>&1 || { tail -n 5 "$out/$backend.txt"; code=1; continue; }
  cp "$state/$backend/summary.json" "$out/$backend.json"
done
python3 compare.py "$out/CUDA.json" "$out/CPU.json" 0.01 || code=1
[ ! -e "$out/through-the-agent.json" ] || python3 compare.py "$out/through-the-agent.json" "$out/CPU.json" 0.01 || code=1

echo "== a billion random weights by the trainer alone"
bin/studio-trainer-cuda --job 1b.pb.txt --out "$state/1b" --data-dir "$state/data" 2>&1 | tee "$out/1b.txt" | tail -n 12 || code=1
[ ! -e "$state/1b/summary.json" ] || cp "$state/1b/summary.json" "$out/1b.json"
exit $code
