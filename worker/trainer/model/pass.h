// What all layers of one forward pass share: segments, angles, masks. Made by CausalLm, immutable while layers run.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/trainer/model/options.h"

namespace studio {

struct Pass {
  // Segments.
  std::vector<int32_t> cu_seqlens;
  int64_t longest = 0;
  at::Tensor cu_seqlens_device;  // [segments + 1] int32, for FlashAttention
  Attention attention = Attention::kSdpa;

  // Rotary embedding, [T, head_dim / 2] fp32 on the device.
  at::Tensor cosine;
  at::Tensor sine;

  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;

  // Dropout and noise are on.
  bool training = false;
  // Of (seed, step); each site adds its own name.
  uint64_t mask_key = 0;
  at::Tensor device_mask_key;  // [] int64, its bits on the device; undefined where no adapter's input is dropped
  at::Tensor mask_ids;         // [T] int64; on the device where device_mask_key is

  int64_t tokens() const { return cosine.size(0); }
};
using PassPtr = std::shared_ptr<const Pass>;

}  // namespace studio
