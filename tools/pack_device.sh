#!/usr/bin/env bash
# Packs what a GPU machine needs that has torch in its Python and none of our Debian libraries: release binaries with
# gRPC inside (--config=dist), the CUDA trainer, model shapes (no weights: pretrained=false draws them there from the
# seed, the same on every machine), the FAQ, jobs, every CUDA test, and a script that runs and compares.
#   tools/pack_device.sh OUT.tar.gz       then, over there: tar xzf OUT.tar.gz && studio-device/run.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:?usage: tools/pack_device.sh OUT.tar.gz}")
mapfile -t example < <(tools/fetch_example.sh)
[ ${#example[@]} = 3 ] || exit 1
targets=(//controller:studio-controller //worker/agent:studio-worker //worker/trainer:studio-trainer-cuda
  //worker/data:studio-dataprep //studioctl)
bazel=${BAZEL:-bazel}
mapfile -t tests < <("$bazel" query --noshow_progress 'kind(cc_test, attr(tags, requires_cuda, //...))' 2>/dev/null)
[ ${#tests[@]} -gt 0 ] || { echo "pack_device: bazel query names no CUDA test" >&2; exit 1; }
"$bazel" build --noshow_progress --config=dist "${targets[@]}" "${tests[@]}"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
pack=$scratch/studio-device
mkdir -p "$pack/bin" "$pack/tests" "$pack/data"
for program in controller/studio-controller worker/agent/studio-worker worker/trainer/studio-trainer-cuda \
  worker/data/studio-dataprep studioctl/studioctl; do
  install -m 755 "bazel-bin/$program" "$pack/bin/"
done
for test in "${tests[@]}"; do
  test=${test#//}
  install -m 755 "bazel-bin/${test/://}" "$pack/tests/"
done
strip "$pack"/bin/* "$pack"/tests/*
# What is neither glibc's nor libstdc++'s nor in the torch wheel (libgomp is) would be missing over there.
for program in "$pack"/bin/* "$pack"/tests/*; do
  foreign=$(objdump -p "$program" | awk '$1 == "NEEDED" { print $2 }' |
    grep -vE '^(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+|atomic)\.so|ld-linux|libtorch|libc10|libcudart|libgomp)' || true)
  [ -z "$foreign" ] || { echo "pack_device: $(basename "$program") needs $foreign" >&2; exit 1; }
done
# For ADAMW8BIT, where the set-up has it (tools/setup.sh build oracle).
for library in .deps/torch/lib/python3*/site-packages/bitsandbytes/libbitsandbytes_{cpu,cuda130}.so; do
  [ ! -e "$library" ] || cp "$library" "$pack/bin/"
done
cp "${example[1]}" "$pack/data/"
for shape in smollm2 1b; do
  mkdir "$pack/$shape"
  cp -L "${example[0]}"/{config.json,generation_config.json,tokenizer.json,tokenizer_config.json} "$pack/$shape/"
done
# A billion weights in Llama 3.2's shape; the vocabulary is larger than the tokenizer's, which costs what it costs there.
cat >"$pack/1b/config.json" <<'EOF'
{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 2048, "intermediate_size": 8192,
 "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256,
 "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "hidden_act": "silu",
 "tie_word_embeddings": true, "attention_bias": false, "mlp_bias": false, "torch_dtype": "bfloat16",
 "initializer_range": 0.02, "bos_token_id": 1, "eos_token_id": 2}
EOF
cp tools/device/*.pb.txt "$pack/"
cp tools/device/{run.sh,two_gpus.sh,compare.py} "$pack/"
mkdir -p "$(dirname "$out")"
tar -C "$scratch" -czf "$out" studio-device
size=$(stat -c %s "$out")
[ "$size" -le $((64 << 20)) ] || { echo "pack_device: $out has $size bytes, more than 64 MiB" >&2; exit 1; }
echo "$out: $((size >> 20)) MiB" >&2
