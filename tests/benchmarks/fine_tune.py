"""The quickstart's training, by our trainer and by Transformers + PEFT: same machine, same examples, alternating pairs.

    python tests/benchmarks/fine_tune.py [--pairs 3] [--steps 8] [--dtype auto|bfloat16|float32]

Prints tokens/s (real tokens; padding counts for nobody), peak memory (the process's, by wait4) and our ratio to the peer
with its spread over the pairs. A single figure says little on a shared machine; the ratio inside a pair is what counts.
Also the trainer's start-up: `--probe`, and from launch to the first step's beginning with the data prepared.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TRAINER = f"{ROOT}/bazel-bin/worker/trainer/studio-trainer"
RATE = 2e-3
JOB = """
name: "benchmark"
dataset {{ train_dataframe: "{data}" validation_size: 0 }}
tokenizer {{ max_length: 512 }}
architecture {{ llm_backbone: "{model}" }}
training {{
  learning_rate: {rate} batch_size: 2 max_steps: {steps} schedule: CONSTANT warmup_steps: 0
  save_steps: 1000000
}}
prediction {{ samples: false }}
environment {{ mixed_precision_dtype: {dtype} }}
resources {{ backend: CPU }}
"""


def run(words: list[str], out: str) -> tuple[float, int]:
    """Seconds and peak resident bytes of a program. Its stdout goes to the file `out`."""
    begin = time.perf_counter()
    with open(out, "w") as stdout, open(f"{out}.err", "w") as stderr:
        child = subprocess.Popen(words, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        with open(f"{out}.err") as file:
            sys.exit(f"{' '.join(words)} ended with {child.returncode}:\n{file.read()[-3000:]}")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


def ours(work: str, job: str, number: int, batches: str = "") -> dict:
    out = f"{work}/ours-{number}"
    words = [TRAINER, "--job", job, "--out", out, "--data-dir", f"{work}/data"]
    wall, peak = run(words + (["--dump-batches", batches] if batches else []), f"{work}/ours-{number}.out")
    with open(f"{out}/summary.json") as file:
        summary = json.load(file)
    in_steps = summary["tokens_seen"] / summary["tokens_per_second"]
    return {
        "tokens_per_second": summary["tokens_per_second"],  # over all steps, without evaluation, loading and export
        "peak": peak,
        "losses": summary["losses"],
        "startup": wall - in_steps,
    }


def peer(work: str, model: str, batches: str, dtype: str, number: int) -> dict:
    out = f"{work}/peer-{number}.out"
    words = [sys.executable, f"{HERE}/peers/hf_peft.py", model, batches, "--dtype", dtype, "--rate", str(RATE)]
    _, peak = run(words, out)
    with open(out) as file:
        report = json.loads(file.read().splitlines()[-1])
    return {**report, "peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--dtype", choices=["auto", "bfloat16", "float32"], default="auto")
    arguments = parser.parse_args()
    dtype = arguments.dtype
    if dtype == "auto":  # as the trainer chooses
        with open("/proc/cpuinfo") as file:
            dtype = "bfloat16" if "avx512_bf16" in file.read() else "float32"
    model, data, _ = subprocess.check_output([f"{ROOT}/tools/fetch_example.sh"], text=True).split()
    with tempfile.TemporaryDirectory(prefix="studio-benchmark-") as work:
        job, batches = f"{work}/job.pb.txt", f"{work}/batches.jsonl"
        with open(job, "w") as file:
            file.write(JOB.format(data=data, model=model, rate=RATE, steps=arguments.steps, dtype=dtype.upper()))
        first = ours(work, job, 0, batches)  # prepares the data, and is not counted

        print(
            f"SmolLM2-135M-Instruct, FAQ, LoRA r 16 on every linear layer, {dtype}, {arguments.steps} steps, 2 x 512 tokens"
        )
        print(f"{'pair':>4} {'ours':>8} {'peer':>8}  tokens/s  ratio  {'ours':>6} {'peer':>6}  GiB")
        pairs = []
        for i in range(1, arguments.pairs + 1):
            # Who goes first alternates: a machine that slows down hurts both.
            order = ["ours", "peer"] if i % 2 else ["peer", "ours"]
            pair = {}
            for who in order:
                pair[who] = ours(work, job, i) if who == "ours" else peer(work, model, batches, dtype, i)
            pairs.append(pair)
            a, b = pair["ours"], pair["peer"]
            print(
                f"{i:>4} {a['tokens_per_second']:>8.1f} {b['tokens_per_second']:>8.1f}           "
                f"{a['tokens_per_second'] / b['tokens_per_second']:>5.2f}  {a['peak'] / 2**30:>6.2f} {b['peak'] / 2**30:>6.2f}",
                flush=True,
            )
        ratios = [p["ours"]["tokens_per_second"] / p["peer"]["tokens_per_second"] for p in pairs]
        memory = [p["ours"]["peak"] / p["peer"]["peak"] for p in pairs]
        print(
            f"speed: {statistics.median(ratios):.2f}x the peer's ({min(ratios):.2f}-{max(ratios):.2f}), "
            f"memory: {statistics.median(memory):.2f}x ({min(memory):.2f}-{max(memory):.2f})"
        )
        # Different initial adapters: about the same losses, or the two did not do the same work.
        print(f"last loss: {first['losses'][-1]:.3f} ours, {pairs[0]['peer']['losses'][-1]:.3f} peer's")
        probes = [run([TRAINER, "--probe"], f"{work}/probe.out")[0] for _ in range(5)]
        startup = statistics.median(p["ours"]["startup"] for p in pairs)
        print(
            f"start-up: {statistics.median(probes):.2f} s for --probe, {startup:.2f} s of a run outside its steps (load, adapter, export)"
        )


if __name__ == "__main__":
    main()
