"""studio-trainer alone against Transformers + PEFT on the same batches: SmolLM2-135M-Instruct, the FAQ, float32.

    python tests/parity/training_test.py [--steps 20]

Both start from an adapter that PEFT wrote with random A and B. The trainer writes down the batches it takes
(--dump-batches); the oracle trains on exactly those with torch's AdamW, the same schedule and clipping. Every step's
loss agrees within 1e-4 relative. Then the trainer's exports are loaded: the adapter in PEFT and the merged model in
Transformers give the logits of the oracle's own, trained model.
"""

import argparse
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


def train_ours(work: str, steps: int, export: str, model: str, data: str, adapter: str) -> dict:
    """The trainer's summary.json, and beside it `steps` (what it trained on) and `result` (the folder of its export)."""
    os.makedirs(work)
    values = {"data": data, "model": model, "adapter": adapter, "steps": steps, "export": export}
    values |= {"rate": LEARNING_RATE, "warmup": WARMUP, "clip": CLIP, "decay": DECAY}
    with open(f"{work}/job.pb.txt", "w") as file:
        file.write(JOB.format(beta1=BETAS[0], beta2=BETAS[1], **values))
    trainer, out, batches = oracle.program("worker/trainer:studio-trainer"), f"{work}/out", f"{work}/batches.jsonl"
    oracle.run(trainer, "--job", f"{work}/job.pb.txt", "--out", out, "--dump-batches", batches)
    with open(f"{out}/summary.json") as file:
        summary = json.load(file)
    return {**summary, "steps": oracle.load_steps(batches), "result": f"{out}/result"}


def train_reference(checks: oracle.Checks, model, steps: list[dict]):
    """The loss of each step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, betas=BETAS, eps=1e-8, weight_decay=DECAY)
    worst = 0.0
    for i, step in enumerate(steps):
        wanted = rate(i, len(steps))
        worst = max(worst, abs(step["learning_rate"] - wanted) / LEARNING_RATE)
        for group in optimizer.param_groups:
            group["lr"] = wanted
        loss = oracle.reference_backward(model, step["micro_batches"])
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        yield loss
    checks.at_most("learning rates, worst difference over the peak", worst, 1e-9)


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
    ours = train_ours(f"{work}/adapter", steps, "ADAPTER", base, data, f"{work}/start")
    numbers = [step["step"] for step in ours["steps"]]
    checks.check(f"{steps} steps, one after the other", numbers == list(range(numbers[0], numbers[0] + steps)))
    checks.check("a held-out loss before and after", {e["step"] for e in ours["evaluations"]} >= {0, steps})
    worst = 0.0
    for i, (loss, wanted) in enumerate(zip(ours["losses"], train_reference(checks, model, ours["steps"]), strict=True)):
        print(f"     step {i + 1:2d}: {loss:.6f}, reference {wanted:.6f}", flush=True)
        worst = max(worst, abs(loss - wanted) / wanted)
    checks.at_most(f"{steps} losses, worst relative difference", worst, 1e-4)

    batch = oracle.faq_batch(AutoTokenizer.from_pretrained(base), oracle.read_faq(data)[:3])
    wanted = oracle.reference_logits(model, batch)
    loaded = PeftModel.from_pretrained(load(), ours["result"]).eval()
    exported = oracle.reference_logits(loaded, batch)
    # Steps of Adam apart from each other, so only about the same; what our own model says of its export is exact.
    difference = (exported - wanted).abs().max().item()
    checks.at_most("exported adapter in PEFT: logits against the reference's trained model", difference, 2e-2)
    path = oracle.save_batch(batch, f"{work}/batch.safetensors")
    own = oracle.dump(base, path, f"{work}/out.safetensors", adapter=ours["result"])["logits"]
    checks.at_most("exported adapter in PEFT: logits against ours", (exported - own).abs().max().item(), 1e-4)

    # The same training, exported merged.
    merged = train_ours(f"{work}/merged", steps, "MODEL", base, data, f"{work}/start")
    checks.check("the same job again: losses bit for bit", merged["losses"] == ours["losses"])
    model = AutoModelForCausalLM.from_pretrained(merged["result"], attn_implementation="eager").eval()
    checks.check("merged model: float32, as the base", model.dtype == torch.float32, str(model.dtype))
    difference = (oracle.reference_logits(model, batch) - exported).abs().max().item()
    checks.at_most("merged model in Transformers: logits against the adapter's", difference, 1e-3)
    text = "Bygglov, 10 weeks? <|im_end|>"
    ids = [AutoTokenizer.from_pretrained(folder).encode(text) for folder in (merged["result"], base)]
    checks.check("the merged model brings its tokenizer", ids[0] == ids[1])
    shutil.rmtree(work)
    checks.end()


if __name__ == "__main__":
    main()
