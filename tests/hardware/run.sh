#!/usr/bin/env bash
# On a GPU machine, from the folder that tools/pack_device.sh made: SmolLM2's shape through controller, agent and CUDA
# trainer, the same on the CPU, then the 1B shape by the trainer alone. Results in $OUT.
#   run.sh [TORCH_LIB]
set -uo pipefail
cd "$(dirname "$0")" || exit 1
torch_lib=${1:-$(python3 -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')}
nvidia=$(dirname "$(dirname "$torch_lib")")/nvidia
for lib in "$nvidia"/*/lib; do torch_lib=$torch_lib:$lib; done
export LD_LIBRARY_PATH=$torch_lib NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
out=${OUT:-$PWD/out}
work=$(mktemp -d)
mkdir -p "$out"
failed=0
bin=$PWD/bin
"$bin/studio-trainer-cuda" --probe | tee "$out/probe.txt" || failed=1

echo "== SmolLM2's shape through controller, agent and CUDA trainer"
"$bin/studio-controller" --state-dir "$work/controller" --listen 127.0.0.1:0 --transfer-listen 127.0.0.1:0 >"$work/controller.out" 2>"$out/controller.log" &
controller=$!
for _ in $(seq 100); do
  address=$(sed -nE 's/^listening on (127\.0\.0\.1:[0-9]+).*/\1/p' "$work/controller.out" | head -n 1)
  [ -n "$address" ] && break
  sleep 0.1
done
export STUDIO_CONTROLLER=$address
"$bin/studio-worker" --controller "$address" --state-dir "$work/worker" --trainer "$bin/studio-trainer-cuda" >"$work/worker.out" 2>"$out/worker.log" &
worker=$!
timeout 300 "$bin/studioctl" submit --follow smollm2_shape.pb.txt || failed=1
"$bin/studioctl" workers -o wide
"$bin/studioctl" get j1 -o json >"$out/job.json"
"$bin/studioctl" logs j1 >"$out/job.log"
find "$work/worker" -name metrics.jsonl -exec cp {} "$out/cuda.jsonl" \;
kill -TERM "$worker" "$controller"
wait "$worker" "$controller"

echo "== the same on the CPU"
timeout 200 "$bin/studio-trainer" --job smollm2_shape.pb.txt --out "$work/cpu" >"$out/cpu.log" 2>&1 || failed=1
cp "$work/cpu/metrics.jsonl" "$out/cpu.jsonl"

echo "== 1B shape by the trainer alone"
timeout 280 "$bin/studio-trainer-cuda" --job llama_1b_lora.pb.txt --out "$work/1b" >"$out/1b.log" 2>&1 || failed=1
tail -n 5 "$out/1b.log"
cp "$work/1b/metrics.jsonl" "$out/1b.jsonl"

python3 - "$out" <<'P' || failed=1
import json, sys

def losses(path):
    return {row["step"]: row["loss"] for row in map(json.loads, open(path)) if "loss" in row}

cuda, cpu = losses(sys.argv[1] + "/cuda.jsonl"), losses(sys.argv[1] + "/cpu.jsonl")
worst = max(abs(cuda[step] - cpu[step]) / cpu[step] for step in cpu)
print(f"{len(cpu)} losses, CUDA {[round(cuda[s], 4) for s in sorted(cuda)]}")
print(f"worst relative difference {worst:.2e} (limit 1e-2)")
sys.exit(not (len(cpu) == len(cuda) == 20 and worst < 0.01))
P
exit $failed
