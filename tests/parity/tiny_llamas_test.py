"""Eight random tiny Llama configurations: logits, loss and the gradient of every weight, against Transformers.

    python tests/parity/tiny_llamas_test.py [--cases N] [--seed S]

Each case mixes a kind of rope scaling, grouped heads, a head size, tying and biases; the table makes sure that every
value of each occurs, the seed decides the rest. Half of the config.json files are in the older form (rope_theta and
rope_scaling beside the other keys) that most published models have.
"""

import argparse
import json
import os
import random
import shutil

import oracle
import torch
from transformers import LlamaConfig, LlamaForCausalLM

CONTEXT = 96
ROPE = [
    {"rope_type": "default"},
    {"rope_type": "linear", "factor": 2.5},
    {"rope_type": "dynamic", "factor": 4.0},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 32},
    {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 24,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
        "attention_factor": 1.2,
    },
    {"rope_type": "default"},
    {
        "rope_type": "llama3",
        "factor": 2.0,
        "low_freq_factor": 2.0,
        "high_freq_factor": 8.0,
        "original_max_position_embeddings": 48,
    },
]
# What must change nothing: recomputation, rows of logits at once, the plain attention.
OPTIONS = [[], ["--checkpointing"], ["--chunk", "7"], ["--attention", "eager"], ["--checkpointing", "--chunk", "64"]]
HEADS = [(4, 2), (6, 2), (4, 1), (2, 2), (8, 2), (3, 3), (6, 3), (5, 1)]  # heads, key-value heads
HEAD_SIZES = [24, 40, 80, 64, 24, 40, 80, 8]


def make(case: int, seed: int, folder: str) -> LlamaForCausalLM:
    draw = random.Random(f"{seed} {case}")
    heads, kv_heads = HEADS[case % 8]
    config = LlamaConfig(
        vocab_size=draw.choice([211, 256, 515]),
        hidden_size=heads * draw.choice([12, 16, 20]),
        intermediate_size=draw.choice([96, 136, 200]),
        num_hidden_layers=draw.choice([1, 2, 3]),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=HEAD_SIZES[case % 8],
        max_position_embeddings=CONTEXT,
        rms_norm_eps=draw.choice([1e-5, 1e-6]),
        tie_word_embeddings=case % 2 == 0,
        attention_bias=case % 4 in (1, 2),
        mlp_bias=case % 4 in (2, 3),
        rope_parameters={"rope_theta": draw.choice([1e4, 5e5]), **ROPE[case % 8]},
        attn_implementation="eager",
    )
    torch.manual_seed(seed * 1000 + case)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Transformers starts with biases of 0 and norms of 1, which hide mistakes.
            if "norm" in name:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.12 * torch.randn_like(parameter))
    # Two files for some: the sharded form with its index.
    model.save_pretrained(folder, max_shard_size="60KB" if case % 3 == 0 else "5GB")
    if case % 2 == 1:
        path = os.path.join(folder, "config.json")
        with open(path) as file:
            written = json.load(file)
        rope = written.pop("rope_parameters")
        written["rope_theta"] = rope.pop("rope_theta")
        # Configurations of before 2024 say "type".
        kind = rope.pop("rope_type")
        written["rope_scaling"] = (
            None if kind == "default" else {"type" if kind == "linear" else "rope_type": kind, **rope}
        )
        with open(path, "w") as file:
            json.dump(written, file)
    return model.float()


def describe(model: LlamaForCausalLM) -> str:
    c = model.config
    bias = "+".join(name for name, on in (("attention", c.attention_bias), ("mlp", c.mlp_bias)) if on) or "no"
    return (
        f"{c.rope_parameters['rope_type']}, {c.num_attention_heads}/{c.num_key_value_heads} heads of {c.head_dim}, "
        f"{'tied' if c.tie_word_embeddings else 'untied'}, {bias} bias"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    checks = oracle.Checks("tiny_llamas_test")
    for case in range(arguments.cases):
        folder = oracle.scratch("tiny")
        model = make(case, arguments.seed, os.path.join(folder, "model"))
        draw = random.Random(f"batch {arguments.seed} {case}")
        # The longest segment fills the context; one of a single token has no label at all.
        lengths = [CONTEXT, 1, draw.randint(2, 40), draw.randint(2, 60)]
        rows = [[draw.randrange(model.config.vocab_size) for _ in range(length)] for length in lengths]
        batch = oracle.flat_batch(rows, [draw.randrange(0, 3) for _ in rows])
        path, out = oracle.save_batch(batch, f"{folder}/batch.safetensors"), f"{folder}/out.safetensors"
        what = f"case {case} ({describe(model)})"
        try:
            ours = oracle.dump(f"{folder}/model", path, out, *OPTIONS[case % len(OPTIONS)], full=True)
        except oracle.ProgramError as error:
            checks.check(what, False, str(error))
            continue
        logits = oracle.reference_logits(model, batch)
        checks.at_most(f"{what}: logits", (ours["logits"] - logits).abs().max().item(), 1e-4)
        loss = oracle.reference_backward(model, [batch])
        checks.at_most(f"{what}: loss", abs(ours["loss"].item() - loss) / loss, 1e-4)
        theirs = {name: parameter.grad for name, parameter in model.named_parameters()}
        oracle.compare_gradients(checks, what, oracle.dumped_gradients(ours), theirs)
        shutil.rmtree(folder)
    checks.end()


if __name__ == "__main__":
    main()
