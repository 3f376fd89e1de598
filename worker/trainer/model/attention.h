// Causal self-attention over segments, rotary embedding included: from the joint product of q, k and v to the heads'
// outputs. Grouped heads read their keys in place; no masks and no padding exist anywhere.
#pragma once

#include <ATen/core/TensorBody.h>

#include "absl/status/statusor.h"
#include "worker/trainer/model/pass.h"

namespace studio {

// qkv [T, (heads + 2 * kv_heads) * head_dim]: consumed (turned in place). Returns [T, heads * head_dim].
at::Tensor SelfAttention(const at::Tensor& qkv, const PassPtr& pass);

// Turns the heads of q and k by their positions' angles, in place where gradients are off.
void RotateInPlace(at::Tensor& qkv, const Pass& pass, double sign);

// What kAuto stands for on this device and type. InvalidArgument where kFlash is asked for and does not run there, with
// the reason.
absl::StatusOr<Attention> ResolveAttention(Attention asked, at::Device device, at::ScalarType dtype, int64_t head_dim);

}  // namespace studio
