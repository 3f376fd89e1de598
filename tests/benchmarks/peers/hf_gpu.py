"""What users would pick instead on a GPU: Transformers + PEFT + Liger's kernels, bf16, random weights, random tokens.

    python hf_gpu.py --shape 1b|8b|tiny --work lora|full --batch 8 --length 2048 [--packed] [--steps 12]

lora: adapters of rank 16 on every linear layer, in bf16 (`autocast_adapter_dtype=False`: PEFT's default keeps them in
fp32 and is slower). full: every weight and its optimizer's states in bf16. Fused AdamW, gradient clip 1.0.
--packed: rows of log-normal length packed best-fit into `batch` bins of `length` tokens, one flat row a step with
variable-length FlashAttention-2. Prints one line of JSON; tokens/s counts real tokens.
"""

import argparse
import json
import random
import statistics
import time

import torch
from gpu_work import SHAPES, lengths
from liger_kernel.transformers import apply_liger_kernel_to_llama
from peft import LoraConfig, get_peft_model
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WARM = 3
# Of the micro batch in flight, for `varlen`.
boundaries: dict = {}


def varlen(module, q, k, v, mask, scaling=None, dropout=0.0, **_):
    """FlashAttention-2 over cu_seqlens as PyTorch ships it."""
    cu, longest = boundaries["cu"], boundaries["longest"]
    out = varlen_attn(*(x[0].transpose(0, 1) for x in (q, k, v)), cu, cu, longest, longest, window_size=(-1, 0))
    return out[None], None


def pack(rows: list[int], length: int, bins_a_step: int) -> list[list[int]]:
    bins: list[list[int]] = []
    for n in sorted(rows, reverse=True):
        best = min((b for b in bins if length - sum(b) >= n), key=lambda b: length - sum(b), default=None)
        if best is None:
            bins.append([n])
        else:
            best.append(n)
    random.Random(3).shuffle(bins)
    return [
        [n for b in bins[i : i + bins_a_step] for n in b] for i in range(0, len(bins) - bins_a_step + 1, bins_a_step)
    ]


def batches(args, vocab: int):
    """(model's arguments, real tokens) of each step, on the CPU."""
    generator = torch.Generator().manual_seed(1)
    if not args.packed:
        for _ in range(WARM + args.steps):
            ids = torch.randint(0, vocab, (args.batch, args.length), generator=generator)
            yield {"input_ids": ids, "labels": ids}, ids.numel()
        return
    steps = pack(lengths(640), args.length, args.batch)
    for segments in steps[:WARM] + steps:
        n = sum(segments)
        ids = torch.randint(0, vocab, (1, n), generator=generator)
        labels = ids.clone()
        ends = [0]
        for length in segments:
            labels[0, ends[-1]] = -100
            ends.append(ends[-1] + length)
        boundaries["cu"] = torch.tensor(ends, dtype=torch.int32, device="cuda")
        boundaries["longest"] = max(segments)
        positions = torch.cat([torch.arange(length) for length in segments])[None]
        yield {"input_ids": ids, "labels": labels, "position_ids": positions}, n


def build(args):
    torch.manual_seed(0)
    config = LlamaConfig(
        max_position_embeddings=8192,
        rope_theta=500000.0,
        attn_implementation="varlen" if args.packed else "sdpa",
        **SHAPES[args.shape],
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.config.use_cache = False
    if args.work == "lora":
        lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=args.dropout, task_type="CAUSAL_LM", target_modules=LINEAR)
        model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    return model.train()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--work", choices=["lora", "full"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--dropout", type=float, default=0.0, help="of the adapters' input")
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    apply_liger_kernel_to_llama()
    AttentionInterface.register("varlen", varlen)
    model = build(args)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    torch.cuda.reset_peak_memory_stats()
    seconds, tokens = [], []
    for batch, n in batches(args, SHAPES[args.shape]["vocab_size"]):
        batch = {k: v.to("cuda") for k, v in batch.items()}
        torch.cuda.synchronize()
        begin = time.perf_counter()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
        tokens.append(n)
    seconds, tokens = seconds[WARM:], tokens[WARM:]
    # Of packed rows each step has another shape, and a new shape may compile: the median is what training comes to.
    rate = statistics.median(n / s for n, s in zip(tokens, seconds, strict=True))
    print(
        json.dumps(
            {
                "tokens_per_second": rate,
                "milliseconds": statistics.median(seconds) * 1e3,
                "tokens_per_step": sum(tokens) / len(tokens),
                "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
                "loss": loss.item(),
            }
        )
    )


if __name__ == "__main__":
    main()
