"""What users would pick instead: Transformers + PEFT, on exactly the work that our trainer just did.

    python tests/benchmarks/peers/hf_peft.py MODEL_DIR BATCHES_DIR [--dtype bfloat16|float32] [--rate 2e-3] [--steps N]

BATCHES_DIR holds what `studio-trainer --dump-batches` wrote: the same examples, step by step. They are padded to the
longest of the micro batch, as a data collator does; only real tokens count for speed. Prints one JSON object.
The peer is set up as well as a careful user would: the adapter in the base's type (faster than PEFT's fp32 default), AdamW
fused, all threads, no evaluation or logging inside the clock.
"""

import argparse
import glob
import itertools
import json
import os
import re
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

IGNORED = -100


def padded(flat: dict) -> dict[str, torch.Tensor]:
    """[n, longest] from the flat batch's segments, with Transformers' unshifted labels."""
    bounds = flat["cu_seqlens"].tolist()
    rows = list(itertools.pairwise(bounds))
    longest = max(end - begin for begin, end in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, (begin, end) in enumerate(rows):
        size = end - begin
        ids[i, :size], mask[i, :size] = flat["tokens"][begin:end], 1
        labels[i, 1:size] = flat["labels"][begin : end - 1]
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("batches")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    started = time.perf_counter()

    base = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype))
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, lora, autocast_adapter_dtype=False)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.rate, fused=True)

    steps: dict[int, list] = {}
    for path in sorted(glob.glob(f"{arguments.batches}/step-*-micro-*.safetensors")):
        steps.setdefault(int(re.search(r"step-(\d+)", path).group(1)), []).append(path)
    numbers = sorted(steps)[: arguments.steps or None]
    loaded = {number: [load_file(path) for path in steps[number]] for number in numbers}
    ready = time.perf_counter()

    seconds, tokens, losses = [], [], []
    for number in numbers:
        flats = loaded[number]
        valid = sum(int((flat["labels"] != IGNORED).sum()) for flat in flats)
        begin = time.perf_counter()
        total = 0.0
        for flat in flats:
            # num_items_in_batch: as Trainer does with gradient accumulation, the mean is over the whole step's tokens.
            loss = model(**padded(flat), num_items_in_batch=valid, use_cache=False).loss
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - begin)
        tokens.append(sum(len(flat["tokens"]) for flat in flats))
        losses.append(total)
    # The first step warms caches up, for the peer as for ours.
    report = {
        "tokens_per_second": sum(tokens[1:]) / sum(seconds[1:]),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "startup_seconds": ready - started,
        "train_seconds": sum(seconds),
        "losses": losses,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
