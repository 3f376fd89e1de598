#!/usr/bin/env bash
# On a machine with two NVIDIA GPUs, in the folder that tools/pack_device.sh packed: ./two_gpus.sh [OUT_DIR]. Wants
# python3 with torch, for its libraries. SmolLM2's shape in float32 on one rank and on two over NCCL, the same rows a
# step: thirty losses within 1e-4, LoRA and every weight.
set -uo pipefail
cd "$(dirname "$0")" || exit 1
out=$(realpath -m "${1:-out}")
mkdir -p "$out"
torch=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))') || exit 1
# Multicast over NVLink may be forbidden where a host is shared.
export LD_LIBRARY_PATH=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} NCCL_NVLS_ENABLE=0
state=$(mktemp -d)
trap 'rm -rf "$state"' EXIT
code=0

train() { # train NAME RANKS ACCUMULATION LORA
  local pids=() rank port failed=0
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  for ((rank = 0; rank < $2; rank++)); do
    RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=$2 LOCAL_WORLD_SIZE=$2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
      bin/studio-trainer-cuda --job smollm2.pb.txt --out "$state/$1" --data-dir "$state/data" \
      --set resources.backend=CUDA --set environment.mixed_precision_dtype=FLOAT32 \
      --set architecture.backbone_dtype=FLOAT32 --set training.max_steps=30 --set training.batch_size=4 \
      --set "training.grad_accumulation=$3" --set "training.lora=$4" >"$out/$1-$rank.txt" 2>&1 &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  if [ $failed = 1 ]; then tail -n 5 "$out/$1"-*.txt; code=1; else cp "$state/$1/summary.json" "$out/$1.json"; fi
}

for lora in true false; do
  train "one-lora-$lora" 1 4 $lora
  train "two-lora-$lora" 2 2 $lora
  python3 compare.py "$out/two-lora-$lora.json" "$out/one-lora-$lora.json" 0.0001 || code=1
done
exit $code
