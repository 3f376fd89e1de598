#!/usr/bin/env bash
# Packs what a GPU machine needs that has LibTorch (the same version, as a Python wheel) but none of our libraries:
# release binaries with static gRPC, the CUDA trainer, tokenizer, configurations and data; weights are made there.
#   tools/pack_device.sh [FOLDER]      default: device/; at most 64 MiB
# There: FOLDER/run.sh [TORCH_LIB]    runs the checks of docs/performance.md and leaves their results in $OUT (default FOLDER/out)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-device}
tools/setup.sh build cuda model
mapfile -t example < <(tools/fetch_example.sh)
"${BAZEL:-bazel}" build --config=dist //controller:studio-controller //worker/agent:studio-worker //worker/data:studio-dataprep \
  //worker/trainer:studio-trainer //worker/trainer:studio-trainer-cuda //studioctl
rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/smollm2" "$folder/llama-1b" "$folder/data"
for binary in controller/studio-controller worker/agent/studio-worker worker/data/studio-dataprep worker/trainer/studio-trainer \
  worker/trainer/studio-trainer-cuda studioctl/studioctl; do
  cp -f "bazel-bin/$binary" "$folder/bin/"
  chmod u+w "$folder/bin/${binary##*/}"
  strip "$folder/bin/${binary##*/}"
done
for file in config.json generation_config.json tokenizer.json tokenizer_config.json special_tokens_map.json; do
  if [ -e "${example[0]}/$file" ]; then cp "${example[0]}/$file" "$folder/smollm2/"; fi
done
cp "$folder"/smollm2/*token* "$folder/llama-1b/"
cp tests/hardware/llama-1b.config.json "$folder/llama-1b/config.json"
cp "${example[1]}" "$folder/data/faq.jsonl"
cp tests/hardware/*.pb.txt tests/hardware/run.sh "$folder/"
du -sh "$folder" | cut -f 1
