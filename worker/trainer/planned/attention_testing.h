// For tests of attention's figures.
#pragma once

#include "worker/trainer/planned/attention_figures.h"

namespace studio::planned {

// 1b-lora's attention.
inline AttentionKey H200Key() {
  return {.device = "NVIDIA H200",
          .compute_capability = "9.0",
          .libtorch = "2.11.0",
          .dtype = "BFloat16",
          .heads = 32,
          .kv_heads = 8,
          .head_dim = 64,
          .longest = 2048,
          .tokens = 16384,
          .one_length = true};
}

}  // namespace studio::planned
