#!/usr/bin/env bash
# The GPU benchmark in one folder, for a machine that has torch and transformers in its python3 and nothing of ours:
#   tests/benchmarks/gpu/pack.sh DIR      then, over there: DIR/bench.sh 1b-lora OUT [bench.py's options]
#                                         or DIR/measure.sh OUT [PART…]: the CUDA tests first, then rows (measure.sh)
# peft and liger_kernel are fetched as wheels and travel with it.
set -euo pipefail
cd "$(dirname "$0")/../../.."
out=$(realpath -m "${1:?usage: tests/benchmarks/gpu/pack.sh DIR}")
programs=(worker/trainer/studio-trainer-cuda worker/trainer/planned/planned_step_cuda_test
  worker/trainer/kernels/cuda_operations_test worker/trainer/kernels/kernels_benchmark)
targets=()
for program in "${programs[@]}"; do targets+=("//${program%/*}:${program##*/}"); done
"${BAZEL:-bazel}" build --noshow_progress --config=dist "${targets[@]}"
mkdir -p "$out/benchmarks" "$out/whl"
for program in "${programs[@]}"; do
  install -m 755 "bazel-bin/$program" "$out/"
  strip "$out/${program##*/}"
done
install -m 755 tests/benchmarks/gpu/measure.sh "$out/"
cp -r tests/benchmarks/gpu tests/benchmarks/peers "$out/benchmarks/"
for wheel in peft==0.21.2 liger_kernel==0.8.5; do
  compgen -G "$out/whl/${wheel%%==*}-*.whl" >/dev/null ||
    python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 -d "$out/whl" "$wheel"
done
cat >"$out/bench.sh" <<'END'
#!/usr/bin/env bash
# bench.sh ROW OUT [OPTION…]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$site" "$here"/whl/*.whl
torch=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))')
export PYTHONPATH=$site LD_LIBRARY_PATH=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
row=$1 out=$2
shift 2
python3 "$here/benchmarks/gpu/bench.py" --row "$row" --out "$out" --trainer "$here/studio-trainer-cuda" "$@"
END
chmod 755 "$out/bench.sh"
du -sh "$out" >&2
