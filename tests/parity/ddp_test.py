"""Two ranks of studio-trainer against two processes of PyTorch DDP + PEFT over Gloo: SmolLM2-135M-Instruct, the FAQ,
float32, dropout 0.

    python tests/parity/ddp_test.py [--steps 10]

Each of our ranks writes down the batches it takes; the oracle's process of the same rank trains on exactly those, with
torch's AdamW, the same schedule and clipping, and DDP's own average of the gradients. Every step's loss over the tokens
of both ranks agrees within 1e-4 relative, LoRA and full fine-tuning. Batches of a step differ in their valid tokens, so
a mean of the ranks' means would not pass.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys

import oracle
import torch
import torch.distributed as dist
from peft import PeftModel
from training_test import BETAS, CLIP, DECAY, rate
from transformers import AutoModelForCausalLM

RANKS = 2
LEARNING_RATES = {"lora": 1e-3, "full": 1e-4}

JOB = """
name: "parity-ddp"
dataset {{ train_dataframe: "{data}" validation_size: 0.01 packing: false }}
tokenizer {{ max_length: 128 }}
architecture {{ llm_backbone: "{model}" backbone_dtype: FLOAT32 {adapter} }}
training {{
  learning_rate: {rate} batch_size: 1 grad_accumulation: 2 max_steps: {steps} schedule: COSINE warmup_steps: 3
  gradient_clip: {clip} adam_beta1: {beta1} adam_beta2: {beta2} weight_decay: {decay} lora: {lora} lora_r: 8
  lora_alpha: 16 evaluate_before_training: false eval_steps: 1000000 save_steps: 1000000
}}
prediction {{ samples: false }}
environment {{ mixed_precision_dtype: FLOAT32 seed: 11 }}
resources {{ backend: CPU }}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_ranks(commands: list[list[str]]) -> None:
    """One process a rank, with the environment that torchrun gives; all must end well."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(len(commands))}
    shared |= {"LOCAL_WORLD_SIZE": str(len(commands))}
    processes = []
    for rank, command in enumerate(commands):
        env = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        )
    for rank, process in enumerate(processes):
        output, _ = process.communicate()
        if process.returncode != 0:
            for other in processes:
                other.kill()
            raise oracle.ProgramError(f"rank {rank} ended with {process.returncode}:\n{output[-4000:]}")


def train_ours(work: str, steps: int, mode: str, model: str, data: str, adapter: str) -> list[float]:
    """Losses of all steps; leaves work/batches-RANK.jsonl."""
    adapter = f'pretrained_adapter: "{adapter}"' if mode == "lora" else ""
    values = {"data": data, "model": model, "adapter": adapter, "steps": steps, "lora": str(mode == "lora").lower()}
    values |= {"rate": LEARNING_RATES[mode], "clip": CLIP, "decay": DECAY, "beta1": BETAS[0], "beta2": BETAS[1]}
    with open(f"{work}/job.pb.txt", "w") as file:
        file.write(JOB.format(**values))
    command = [oracle.program("worker/trainer:studio-trainer"), "--job", f"{work}/job.pb.txt", "--out", f"{work}/out"]
    on_ranks([[*command, "--dump-batches", f"{work}/batches-{rank}.jsonl"] for rank in range(RANKS)])
    with open(f"{work}/out/summary.json") as file:
        return json.load(file)["losses"]


def train_reference_rank(base: str, work: str, mode: str, adapter: str) -> None:
    """One rank of DDP, in a process of its own. Rank 0 writes work/reference.json."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()
    if mode == "lora":
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True).eval()
    ddp = torch.nn.parallel.DistributedDataParallel(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # As ours: weight decay on matrices alone.
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": DECAY},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATES[mode], betas=BETAS, eps=1e-8)
    steps, losses = oracle.load_steps(f"{work}/batches-{rank}.jsonl"), []
    for i, step in enumerate(steps):
        count = torch.tensor(float(oracle.valid_tokens(step["micro_batches"])))
        dist.all_reduce(count)
        parts = [part for batch in step["micro_batches"] for part in oracle.segments(batch)]
        total = torch.tensor(0.0, dtype=torch.float64)
        for k, (tokens, labels) in enumerate(parts):
            with ddp.no_sync() if k + 1 < len(parts) else contextlib.nullcontext():
                logits = ddp(input_ids=tokens, use_cache=False).logits[0]
                learnt = labels != oracle.IGNORED
                loss = torch.nn.functional.cross_entropy(logits[learnt], labels[learnt], reduction="sum") / count
                # DDP averages over the ranks.
                (loss * RANKS).backward()
                total += loss.item()
        dist.all_reduce(total)
        for group in optimizer.param_groups:
            group["lr"] = rate(i, len(steps)) * LEARNING_RATES[mode] / LEARNING_RATES["lora"]
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total.item())
    if rank == 0:
        with open(f"{work}/reference.json", "w") as file:
            json.dump(losses, file)
    dist.destroy_process_group()


def compare(checks: oracle.Checks, steps: int, mode: str, base: str, data: str, adapter: str, root: str) -> None:
    work = f"{root}/{mode}"
    os.makedirs(work)
    ours = train_ours(work, steps, mode, base, data, adapter)
    on_ranks([[sys.executable, __file__, "--reference-rank", base, work, mode, adapter] for _ in range(RANKS)])
    with open(f"{work}/reference.json") as file:
        reference = json.load(file)
    counts = [
        [oracle.valid_tokens(step["micro_batches"]) for step in oracle.load_steps(f"{work}/batches-{rank}.jsonl")]
        for rank in range(RANKS)
    ]
    checks.check(f"{mode}: {steps} steps on both sides", len(ours) == len(reference) == steps)
    apart = sum(a != b for a, b in zip(*counts, strict=True))
    checks.check(f"{mode}: the ranks' valid tokens differ in most steps", 2 * apart > steps, f"{apart} of {steps}")
    worst = 0.0
    for i, (loss, wanted) in enumerate(zip(ours, reference, strict=True)):
        print(f"     {mode} step {i + 1:2d}: {loss:.6f}, DDP {wanted:.6f}", flush=True)
        worst = max(worst, abs(loss - wanted) / wanted)
    checks.at_most(f"{mode}: {steps} losses of {RANKS} ranks, worst relative difference", worst, 1e-4)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--reference-rank", nargs=4, metavar=("BASE", "WORK", "MODE", "ADAPTER"))
    arguments = parser.parse_args()
    if arguments.reference_rank:
        return train_reference_rank(*arguments.reference_rank)
    checks = oracle.Checks("ddp_test")
    base, data, _ = oracle.example()
    root = oracle.scratch("ddp")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    oracle.random_adapter(model, f"{root}/start", 5, r=8, lora_alpha=16, target_modules="all-linear")
    del model
    for mode in ("lora", "full"):
        compare(checks, arguments.steps, mode, base, data, f"{root}/start", root)
    shutil.rmtree(root)
    checks.end()


if __name__ == "__main__":
    main()
