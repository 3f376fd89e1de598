#!/bin/sh
# `make bench-gpu ROW=1b-lora` on a machine with an NVIDIA card: builds the CUDA trainer and measures one row beside the
# peer (Transformers + PEFT + Liger, in the python that PYTHON names). Without ROW: the rows there are.
set -eu
cd "$(dirname "$0")/../../.."
python=${PYTHON:-python3}
if [ -z "${ROW:-}" ]; then
  exec "$python" tests/benchmarks/gpu/bench.py --list
fi
if [ "$ROW" = cpu ]; then
  exec tests/benchmarks/run.sh "$@"
fi
"${BAZEL:-bazel}" build --noshow_progress //worker/trainer:studio-trainer-cuda
exec "$python" tests/benchmarks/gpu/bench.py --row "$ROW" "$@"
