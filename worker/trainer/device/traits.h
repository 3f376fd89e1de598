// What a device can do, and what follows for types and attention: the rules that the matrix of common/platform states
// for whole platforms, for the one device that a rank has.
//
//   const DeviceTraits traits = TraitsOf(device);
//   if (WhyNoFlashAttention(traits, at::kBFloat16, /*head_dim=*/64).empty()) …
//
// TraitsOf asks the driver; the rules are pure.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"

namespace studio {

struct DeviceTraits {
  v1::Backend backend = v1::CPU;
  // CUDA: "9.0"; empty where the driver did not say.
  std::string compute_capability = {};
  // It multiplies bfloat16 itself; elsewhere that works, slower than float32.
  bool fast_bf16 = false;
};
DeviceTraits TraitsOf(at::Device device);

// FlashAttention-2 as LibTorch has it: CUDA from compute capability 8.0, bf16 or fp16, heads of a multiple of 8 up to
// 256. What of that lacks, with the remedy; empty: it runs.
std::string WhyNoFlashAttention(const DeviceTraits& traits, at::ScalarType type, int64_t head_dim);

// Whether scaled_dot_product_attention with a gradient takes memory linear in the length. On Metal it keeps all scores
// (pytorch#179294), and in LibTorch before 2.13 lets is_causal in half precision see up to three later tokens
// (pytorch#195910).
bool AttentionIsLinear(at::Device device);

// The type of the computation; no autocast is used. DTYPE_AUTO: bfloat16 where it is fast, else float32.
// InvalidArgument for float16 on a CPU.
absl::StatusOr<at::ScalarType> ComputeType(v1::Architecture::Dtype asked, const DeviceTraits& traits);

}  // namespace studio
