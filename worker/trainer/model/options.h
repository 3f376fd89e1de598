// What a caller chooses about a model before it is loaded. Plain values; see docs/precision.md for the types.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace studio {

// Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) under PEFT's names.
struct LoraConfig {
  int64_t r = 16;
  double alpha = 32;
  double dropout = 0;
  // Scale by alpha / sqrt(r) instead of alpha / r (arXiv:2312.03732).
  bool rslora = false;
  // Module names or their last parts ("q_proj"). Empty: every linear layer but the head.
  std::vector<std::string> target_modules;

  double Scale() const;
};

enum class Attention {
  kAuto,   // the fastest that the device has
  kEager,  // scores written out: the reference
  kSdpa,   // LibTorch's scaled_dot_product_attention, segment by segment
  kFlash,  // FlashAttention over cu_seqlens (CUDA, bf16 or fp16)
};

struct ModelOptions {
  // Type of the computation: at::kFloat or at::kBFloat16 (at::kHalf on CUDA).
  at::ScalarType compute_dtype = at::kFloat;
  // Type in which frozen weights are kept.
  at::ScalarType base_dtype = at::kFloat;
  // Type in which trained weights are kept where every weight is trained, and their gradients: at::kFloat, or
  // at::kBFloat16, for which AdamW rounds by chance. Adapters are always fp32.
  at::ScalarType trained_dtype = at::kFloat;
  at::Device device = at::kCPU;
  // Adapters on frozen weights; without it every weight is trained.
  std::optional<LoraConfig> lora;
  // Frozen weights in the compute type are kept in matrices with room for their adapters, which the planned step
  // multiplies at once (see planned/).
  bool bordered = false;
  // A PEFT adapter folder whose A and B replace the fresh ones. Its r, alpha and targets must be those of `lora`.
  std::string adapter_dir;
  // False: every weight is drawn from `seed`; only config.json is read.
  bool pretrained = true;
  // Nothing is trained: for evaluation and generation. No gradients, no fp32 masters.
  bool frozen = false;
  uint64_t seed = 1;
  // Keep only each layer's input and run the layer again in the backward pass.
  bool gradient_checkpointing = false;
  Attention attention = Attention::kAuto;
  // Rows of logits that exist at once.
  int64_t loss_chunk_rows = 512;
  // Noise on the embeddings while training (NEFTune, arXiv:2310.05914). 0: none.
  double neftune_alpha = 0;
};

}  // namespace studio
