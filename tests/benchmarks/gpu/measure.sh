#!/usr/bin/env bash
# What is to be measured on a card, in parts of at most eight minutes each, in a folder that pack.sh made:
#   ./measure.sh OUT [PART…]     PART: tests, 1b-lora-512, 1b-full, 1b-lora, kernels; without one: the first two
# tests        every CUDA test of the kernels and the planned step: graphs on against graphs off among them
# a row        ours and the peer in pairs, and our own steps against each other: --ahead off, --step autograd, the first
#              20 losses of all three within bf16 noise
# kernels      kernels_benchmark
# Goes on after a failure and ends with 1 then. OUT has everything that was printed, and OUT.tar.gz is OUT.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(realpath -m "${1:?usage: measure.sh OUT [PART…]}")
shift
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(tests 1b-lora-512)
mkdir -p "$out"
torch=$(python3 -c 'import os, torch; print(os.path.dirname(torch.__file__))') || exit 1
libraries=$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
code=0

# run NAME COMMAND…: all of it to OUT/NAME.log, its end to the terminal.
run() {
  local name=$1 begin=$SECONDS status=0
  shift
  LD_LIBRARY_PATH=$libraries "$@" >"$out/$name.log" 2>&1 || status=$?
  [ "$status" = 0 ] || code=1
  echo "== $name: exit $status after $((SECONDS - begin)) s"
  [ "$status" = 0 ] || grep -E 'Failure|FAILED|rror' "$out/$name.log" | head -n 20
  tail -n "${lines:-3}" "$out/$name.log"
}

nvidia-smi --query-gpu=name,driver_version,power.limit --format=csv,noheader || { echo "measure.sh: no NVIDIA card here" >&2; exit 1; }
for part in "${parts[@]}"; do
  case $part in
    tests)
      export TEST_TMPDIR=$out/scratch
      mkdir -p "$TEST_TMPDIR"
      run cuda_operations_test timeout 120 "$here/cuda_operations_test"
      run planned_step_cuda_test timeout 120 "$here/planned_step_cuda_test"
      rm -rf "$TEST_TMPDIR"
      ;;
    kernels)
      lines=40 run kernels timeout 300 "$here/kernels_benchmark"
      ;;
    *)
      lines=40 run "$part" timeout 330 "$here/bench.sh" "$part" "$out/$part"
      run "$part-direct" timeout 90 "$here/bench.sh" "$part" "$out/$part-direct" --alone --ahead off
      run "$part-autograd" timeout 90 "$here/bench.sh" "$part" "$out/$part-autograd" --alone --step autograd
      compare=$here/benchmarks/gpu/compare_losses.py
      run "$part-direct-losses" python3 "$compare" "$out/$part/ours-$part-0.json" "$out/$part-direct/ours-$part.json" 0.005
      run "$part-autograd-losses" python3 "$compare" "$out/$part/ours-$part-0.json" "$out/$part-autograd/ours-$part.json" 0.005
      ;;
  esac
done
tar -C "$(dirname "$out")" -czf "$out.tar.gz" "$(basename "$out")"
exit $code
