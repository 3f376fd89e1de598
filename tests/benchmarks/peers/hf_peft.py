"""What users would pick instead: Transformers + PEFT, on exactly the work that our trainer just did.

    python tests/benchmarks/peers/hf_peft.py MODEL_DIR BATCHES.jsonl [--dtype bfloat16|float32] [--rate 2e-3] [--steps N]

BATCHES.jsonl is what `studio-trainer --dump-batches` wrote: the same examples, step by step. They are padded to the
longest of the micro batch, as a data collator does; only real tokens count for speed. Prints one JSON object.
The peer is set up as well as a careful user would: the adapter in the base's type (faster than PEFT's fp32 default), AdamW
fused, all threads, no evaluation or logging inside the clock.
"""

import argparse
import itertools
import json
import os
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
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

    with open(arguments.batches) as file:
        steps = [json.loads(line)["micro_batches"] for line in file][: arguments.steps or None]
    loaded = [[{k: torch.tensor(v) for k, v in flat.items()} for flat in flats] for flats in steps]
    ready = time.perf_counter()

    seconds, tokens, losses = [], [], []
    for flats in loaded:
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
    report = {
        "tokens_per_second": sum(tokens) / sum(seconds),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "startup_seconds": ready - started,
        "train_seconds": sum(seconds),
        "losses": losses,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
