"""The rows of the GPU benchmark: one piece of work each, for our trainer and for the peer, and the files ours needs."""

import json
import os
import random
from dataclasses import dataclass

# A tokenizer of bytes, so that a text of n letters is n tokens.
BYTES = [*range(33, 127)]


@dataclass(frozen=True)
class Row:
    shape: str
    work: str  # lora or full
    batch: int
    length: int
    packed: bool = False
    dropout: float = 0.0


ROWS = {
    "1b-lora": Row("1b", "lora", 8, 2048),
    "1b-lora-dropout": Row("1b", "lora", 8, 2048, dropout=0.05),
    "1b-full": Row("1b", "full", 8, 2048),
    "8b-lora": Row("8b", "lora", 2, 2048),
    "1b-lora-packed": Row("1b", "lora", 8, 2048, packed=True),
    "1b-lora-512": Row("1b", "lora", 1, 512),
}

JOB = """
name: "benchmark"
dataset {{
  train_dataframe: "rows.jsonl" validation_size: 0 packing: {packing} mask_prompt_labels: false
  chat_template: "{{% for message in messages %}}{{{{ message['content'] }}}}{{% endfor %}}"
}}
tokenizer {{ max_length: {length} }}
architecture {{ llm_backbone: "model" pretrained: false backbone_dtype: BFLOAT16 }}
training {{
  lora: {lora} lora_dropout: {dropout} learning_rate: 1e-4 batch_size: {batch} max_steps: {steps} schedule: CONSTANT warmup_steps: 0
  evaluate_before_training: false save_steps: 1000000
}}
prediction {{ samples: false }}
environment {{ mixed_precision_dtype: BFLOAT16 seed: 3 }}
resources {{ backend: {backend} }}
"""


def tokenizer() -> dict:
    special = ["<|unk|>", "<|endoftext|>"]
    added = [
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": True}
        for i, text in enumerate(special)
    ]
    vocabulary = {text: i for i, text in enumerate(special)}
    vocabulary |= {chr(byte): len(special) + i for i, byte in enumerate(BYTES)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None}
    model |= {"end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []}
    none = dict.fromkeys(["truncation", "padding", "normalizer", "post_processor"])
    return {"version": "1.0", **none, "added_tokens": added, "pre_tokenizer": byte_level, "decoder": byte_level} | {
        "model": model
    }


def write(folder: str, row: Row, shape: dict, lengths: list[int], steps: int, backend: str) -> str:
    """Model folder, rows and job; returns the job's path. `lengths`: of the examples of a packed row."""
    os.makedirs(f"{folder}/model", exist_ok=True)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 8192}
    config |= {"rope_theta": 500000.0, "rms_norm_eps": 1e-5, "hidden_act": "silu", "initializer_range": 0.02}
    config |= {"torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 1, **shape}
    for name, value in (
        ("config.json", config),
        ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", {"eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}),
    ):
        with open(f"{folder}/model/{name}", "w") as file:
            json.dump(value, file)
    rng = random.Random(11)
    letters = [chr(b) for b in BYTES if chr(b).isalpha()]
    # Prompt, answer and the end of the text: an answer longer than a row fills it to the last token.
    sizes = [max(1, n - 2) for n in lengths] if row.packed else [2 * row.length] * max(16, 8 * row.batch)
    with open(f"{folder}/rows.jsonl", "w") as file:
        file.writelines(
            json.dumps({"instruction": "Q", "output": "".join(rng.choices(letters, k=size))}) + "\n" for size in sizes
        )
    path = f"{folder}/job.pb.txt"
    with open(path, "w") as file:
        file.write(
            JOB.format(
                packing=str(row.packed).lower(),
                length=row.length,
                lora=str(row.work == "lora").lower(),
                dropout=row.dropout,
                batch=row.batch,
                steps=steps,
                backend=backend,
            )
        )
    return path
