"""studio-trainer alone against Transformers + PEFT on the same batches: SmolLM2-135M-Instruct, the FAQ, float32.

    python tests/parity/training_test.py [--steps 20]

Both start from an adapter that PEFT wrote with random A and B. The trainer writes down the batches it takes
(--dump-batches); the oracle trains on exactly those with torch's AdamW, the same schedule and clipping. Every step's
loss agrees within 1e-4 relative. Then the trainer's exports are loaded: the adapter in PEFT and the merged model in
Transformers give the logits of the oracle's own, trained model.
"""

import argparse
import glob
import json
import math
import os
import shutil

import oracle
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

LEARNING_RATE, WARMUP, CLIP, BETAS, DECAY = 1e-3, 3, 0.5, (0.9, 0.98), 0.01

JOB = """
name: "parity"
dataset {{ train_dataframe: "{data}" validation_size: 0.01 }}
tokenizer {{ max_length: 192 }}
architecture {{ llm_backbone: "{model}" backbone_dtype: FLOAT32 pretrained_adapter: "{adapter}" }}
training {{
  learning_rate: {rate} batch_size: 1 grad_accumulation: 2 max_steps: {steps} schedule: COSINE warmup_steps: {warmup}
  gradient_clip: {clip} adam_beta1: {beta1} adam_beta2: {beta2} weight_decay: {decay} lora_r: 8 lora_alpha: 16
  evaluate_before_training: true save_steps: 1000000
}}
prediction {{ samples: false }}
environment {{ mixed_precision_dtype: FLOAT32 seed: 11 }}
resources {{ backend: CPU }}
export {{ format: {export} }}
"""


def rate(step: int, steps: int) -> float:
    """Of the `step`-th step (from 0): Transformers' get_cosine_schedule_with_warmup."""
    if step < WARMUP:
        return LEARNING_RATE * step / WARMUP
    return LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP)))


def train_ours(
    work: str, steps: int, export: str, model: str, data: str, adapter: str
) -> tuple[list[dict], list[dict], str]:
    """The metrics of each step, those of evaluations, and the result's folder."""
    out = f"{work}/{export}"
    os.makedirs(out)
    with open(f"{out}/job.pb.txt", "w") as file:
        file.write(
            JOB.format(
                data=data, model=model, adapter=adapter, rate=LEARNING_RATE, steps=steps, warmup=WARMUP, clip=CLIP,
                beta1=BETAS[0], beta2=BETAS[1], decay=DECAY, export=export,
            )
        )  # fmt: skip
    trainer = oracle.program("worker/trainer:studio-trainer")
    oracle.run(trainer, "--job", f"{out}/job.pb.txt", "--out", f"{out}/out", "--dump-batches", f"{out}/batches")
    with open(f"{out}/out/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    result = f"{out}/out/result"
    if not glob.glob(f"{result}/*.json"):  # a folder named by export.name
        result = os.path.dirname(glob.glob(f"{result}/*/*config.json")[0])
    return [line for line in lines if "loss" in line], [line for line in lines if "eval_loss" in line], result


def train_reference(model, batch_folder: str, steps: int):
    """(loss, norm of the gradient before clipping) of each step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=BETAS, eps=1e-8, weight_decay=DECAY)
    for step in range(steps):
        files = sorted(glob.glob(f"{batch_folder}/step-{step + 1:06d}-micro-*.safetensors"))
        if not files:
            raise SystemExit(f"{batch_folder}: no batch of step {step + 1}")
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        loss = oracle.reference_backward(model, [oracle.load_batch(file) for file in files])
        norm = torch.nn.utils.clip_grad_norm_(trained, CLIP).item()
        optimizer.step()
        optimizer.zero_grad()
        yield loss, norm


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20)
    steps = parser.parse_args().steps
    checks = oracle.Checks("training_test")
    base, data, _ = oracle.example()
    work = oracle.scratch("training")

    def load():
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()

    model = oracle.random_adapter(load(), f"{work}/start", 5, r=8, lora_alpha=16, target_modules="all-linear")
    ours, evaluations, adapter = train_ours(work, steps, "ADAPTER", base, data, f"{work}/start")
    checks.check("one metric line a step", [line["step"] for line in ours] == list(range(1, steps + 1)))
    checks.check("held-out loss before and after", len(evaluations) == 2)
    worst_loss = worst_norm = 0.0
    for line, (loss, norm) in zip(ours, train_reference(model, f"{work}/ADAPTER/batches", steps)):
        print(
            f"     step {line['step']:2d}: {line['loss']:.6f} {loss:.6f}, gradient {line['grad_norm']:.5f} {norm:.5f}",
            flush=True,
        )
        worst_loss = max(worst_loss, abs(line["loss"] - loss) / loss)
        worst_norm = max(worst_norm, abs(line["grad_norm"] - norm) / norm)
    checks.at_most(f"{steps} losses, worst relative difference", worst_loss, 1e-4)
    checks.at_most(f"{steps} gradient norms, worst relative difference", worst_norm, 1e-3)

    batch = oracle.faq_batch(AutoTokenizer.from_pretrained(base), oracle.read_faq(data)[:3])
    theirs = oracle.reference_logits(model, batch)
    loaded = PeftModel.from_pretrained(load(), adapter).eval()
    exported = oracle.reference_logits(loaded, batch)
    # Twenty steps apart from each other, so only about the same; what our own model says of its export is exact.
    checks.at_most(
        "adapter in PEFT: logits against the oracle's trained model", (exported - theirs).abs().max().item(), 2e-2
    )
    path = oracle.save_batch(batch, f"{work}/batch.safetensors")
    own = oracle.dump(base, path, f"{work}/out.safetensors", adapter=adapter)["logits"]
    checks.at_most("adapter in PEFT: logits against ours", (exported - own).abs().max().item(), 1e-4)

    merged_steps = min(steps, 2)
    _, _, folder = train_ours(work, merged_steps, "MODEL", base, data, f"{work}/start")
    _, _, adapter = train_ours(f"{work}/again", merged_steps, "ADAPTER", base, data, f"{work}/start")
    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    apart = PeftModel.from_pretrained(load(), adapter).eval()
    difference = (oracle.reference_logits(merged, batch) - oracle.reference_logits(apart, batch)).abs().max().item()
    checks.at_most("merged model in Transformers: logits against the adapter's", difference, 1e-3)
    same = AutoTokenizer.from_pretrained(folder).encode("Bygglov, 10 weeks?") == AutoTokenizer.from_pretrained(
        base
    ).encode("Bygglov, 10 weeks?")
    checks.check("the merged model brings its tokenizer", same)
    shutil.rmtree(work)
    checks.end()


if __name__ == "__main__":
    main()
