"""What both sides of the GPU benchmark work on: models' shapes in Llama 3's family, and lengths of examples."""

import random

SHAPES = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
           "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "tie_word_embeddings": True},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
           "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128256, "tie_word_embeddings": False},
    "tiny": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512, "tie_word_embeddings": True},
}  # fmt: skip


def lengths(count: int) -> list[int]:
    """Log-normal: median 180, 95th percentile 900, at most 2,048. The same for both sides of the benchmark."""
    rng = random.Random(7)
    return [max(8, min(2048, round(rng.lognormvariate(5.193, 0.9785)))) for _ in range(count)]
