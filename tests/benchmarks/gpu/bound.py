"""How fast a step could be: its matrix products and attention alone, by the same libraries, replayed as one CUDA graph.

    python bound.py --shape 1b --work lora --batch 8 --length 2048     prints milliseconds of one step

No norms, no rotary embedding, no activation, no loss, no optimizer, no adapter. Random data: zeros run faster.
"""

import argparse
import os
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "peers"))
from gpu_work import SHAPES

LOSS_ROWS = 2048


class Step:
    def __init__(self, shape: dict, work: str, batch: int, length: int):
        self.batch, self.length, self.full = batch, length, work == "full"
        self.tokens = batch * length
        self.layers, self.heads = shape["num_hidden_layers"], shape["num_attention_heads"]
        self.kv_heads, self.head_dim = shape["num_key_value_heads"], shape["head_dim"]
        hidden, wide = shape["hidden_size"], shape["intermediate_size"]
        q = self.heads * self.head_dim
        qkv = q + 2 * self.kv_heads * self.head_dim
        # (out, in) of each product of a layer.
        sizes = {"qkv": (qkv, hidden), "o": (hidden, q), "gate_up": (2 * wide, hidden), "down": (hidden, wide)}
        self.weights = [{name: self.random(*size) * 0.02 for name, size in sizes.items()} for _ in range(self.layers)]
        self.head = self.random(shape["vocab_size"], hidden) * 0.02
        self.x = {name: self.random(self.tokens, size[1]) for name, size in sizes.items()}
        self.y = {name: self.random(self.tokens, size[0]) for name, size in sizes.items()}

    @staticmethod
    def random(*size: int) -> torch.Tensor:
        return torch.randn(*size, device="cuda", dtype=torch.bfloat16)

    def products(self, weights: dict, names: list[str], backward: bool, layer: int) -> None:
        for name in names:
            if not backward:
                torch.mm(self.x[name], weights[name].t())
                continue
            if self.full:
                torch.mm(self.y[name].t(), self.x[name])
            if self.full or layer > 0 or name != "qkv":  # nothing is trained below the first layer's adapters
                torch.mm(self.y[name], weights[name])

    def run(self) -> None:
        attended = []
        for layer, weights in enumerate(self.weights):
            self.products(weights, ["qkv"], False, layer)
            heads = self.y["qkv"].view(self.batch, self.length, -1, self.head_dim).transpose(1, 2)
            q, k, v = (
                x.detach().requires_grad_() for x in heads.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
            )
            with torch.enable_grad(), sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
                attended.append((F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), q, k, v))
            self.products(weights, ["o", "gate_up", "down"], False, layer)
        for begin in range(0, self.tokens, LOSS_ROWS):
            rows = self.x["qkv"][begin : begin + LOSS_ROWS]
            logits = torch.mm(rows, self.head.t())
            torch.mm(logits, self.head)
            if self.full:
                torch.mm(logits.t(), rows)
        for layer in reversed(range(self.layers)):
            weights = self.weights[layer]
            self.products(weights, ["down", "gate_up", "o"], True, layer)
            out, q, k, v = attended.pop()
            torch.autograd.grad(out, (q, k, v), out.detach())
            self.products(weights, ["qkv"], True, layer)


@torch.no_grad()
def milliseconds(shape: dict, work: str, batch: int, length: int, repeats: int = 12) -> float:
    step = Step(shape, work, batch, length)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step.run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step.run()
    times = []
    for _ in range(repeats + 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times[3:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--work", choices=["lora", "full"], required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--length", type=int, required=True)
    args = parser.parse_args()
    print(milliseconds(SHAPES[args.shape], args.work, args.batch, args.length))


if __name__ == "__main__":
    main()
