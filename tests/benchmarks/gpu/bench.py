"""One row of the GPU benchmark: our trainer and the peer on the same card, in alternating pairs, in one run.

    python bench.py --row 1b-lora --trainer PATH [--pairs 2] [--out DIR] [--step auto|planned|autograd]
                    [--ahead auto|on|off] [--alone]
    python bench.py --list

--alone: ours without the peer, the bound and the profile, to compare our own steps.
Prints tokens/s, peak memory, the ratio of each pair, the share of what matrix products and attention alone allow
(bound.py), and where one step's milliseconds go (kernel_table.py). Only ratios of one run count: cards differ by 5 %.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = os.path.join(HERE, "..", "peers")
sys.path[:0] = [HERE, PEERS]
from gpu_work import SHAPES, lengths
from kernel_table import table
from rows import ROWS, Row, write

# The first steps load, compile and choose algorithms.
WARM = 5
LIMIT_S = 240


def run(words: list[str], log: str) -> str:
    """stdout, which `log` receives too, followed by stderr."""
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    with open(log, "w") as file:
        file.write(done.stdout + done.stderr)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def work_words(row: Row) -> list[str]:
    return ["--shape", row.shape, "--work", row.work, "--batch", str(row.batch), "--length", str(row.length)]


def peer(row: Row, out: str, number: int) -> dict:
    words = [sys.executable, f"{PEERS}/hf_gpu.py", *work_words(row), "--dropout", str(row.dropout)]
    words += ["--packed"] if row.packed else []
    return json.loads(run(words, f"{out}/peer-{number}.log").splitlines()[-1])


def ours(trainer: str, job: str, row: Row, out: str, name: str, more: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        words = [trainer, "--job", job, "--out", f"{scratch}/out", "--data-dir", f"{os.path.dirname(job)}/data", *more]
        run(words, f"{out}/ours-{name}.log")
        with open(f"{scratch}/out/summary.json") as file:
            summary = json.load(file)
    with open(f"{out}/ours-{name}.json", "w") as file:
        json.dump(summary, file)
    seconds, tokens = summary["step_seconds"][WARM:], summary["step_tokens"][WARM:]
    rate = statistics.median(n / s for n, s in zip(tokens, seconds, strict=True))
    return {
        "tokens_per_second": rate,
        "milliseconds": statistics.median(seconds) * 1e3,
        "tokens_per_step": sum(tokens) / len(tokens),
        "peak_gib": summary["peak_memory_bytes"] / 2**30,
        "loss": summary["losses"][-1],
        "step": summary["step"],
    }


def show(who: str, result: dict) -> None:
    print(
        f"  {who:5s} {result['tokens_per_second']:10,.0f} tokens/s  {result['milliseconds']:8.2f} ms a step of "
        f"{result['tokens_per_step']:,.0f}  {result['peak_gib']:6.2f} GiB  loss {result['loss']:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--row", choices=ROWS)
    parser.add_argument("--trainer", default=f"{HERE}/../../../bazel-bin/worker/trainer/studio-trainer-cuda")
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--step", default="auto", help="the trainer's --step")
    parser.add_argument("--ahead", default="auto", help="the trainer's --ahead")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--out", default="bench-gpu")
    args = parser.parse_args()
    if args.list or args.row is None:
        print("\n".join(f"{name:16s} {row}" for name, row in ROWS.items()))
        return
    row = ROWS[args.row]
    out = os.path.abspath(args.out)
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        how = ["--step", args.step, "--ahead", args.ahead]
        job = write(folder, row, SHAPES[row.shape], lengths(640), args.steps, "CUDA")
        print(f"{args.row}: {row}", flush=True)
        if args.alone:
            show("ours", ours(args.trainer, job, row, out, args.row, how))
            return
        ratios, last = [], {}
        for pair in range(args.pairs):
            for who in ("ours", "peer") if pair % 2 == 0 else ("peer", "ours"):
                if who == "peer":
                    last[who] = peer(row, out, pair)
                else:
                    last[who] = ours(args.trainer, job, row, out, f"{args.row}-{pair}", how)
                show(who, last[who])
            ratios.append(last["ours"]["tokens_per_second"] / last["peer"]["tokens_per_second"])
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else "no pair"
        print(f"  ours / peer: {statistics.median(ratios) if ratios else float('nan'):.3f} ({spread})")
        if last.get("ours"):
            print(f"  our step: {last['ours']['step']}")
        if not row.packed:
            bound = float(run([sys.executable, f"{HERE}/bound.py", *work_words(row)], f"{out}/bound.log"))
            tokens = row.batch * row.length
            print(f"  products and attention alone: {bound:.2f} ms, {tokens / bound * 1e3:,.0f} tokens/s", end="")
            print(f"; ours reaches {bound / last['ours']['milliseconds']:.1%}" if last.get("ours") else "")
        trace = f"{folder}/trace.json"
        ours(args.trainer, job, row, out, f"{args.row}-profiled", [*how, "--profile", trace])
        text = table(trace, 40)[1]
        with open(f"{out}/{args.row}-kernels.txt", "w") as file:
            file.write(text + "\n")
        print("\n".join(text.splitlines()[:36]))


if __name__ == "__main__":
    main()
