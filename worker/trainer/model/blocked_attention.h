// Causal attention by blocks of queries: memory linear in a segment's length, by LibTorch's operations alone, for
// devices whose scaled_dot_product_attention keeps all scores for a gradient (Metal: pytorch#179294). A block's scores
// against all keys before its end exist at a time, in the forward pass and, made again, in the backward pass
// (arXiv:2205.14135); what is kept is the logarithm of each row's sum. Scores and softmax are in fp32. Masks are
// explicit.
#pragma once

#include <ATen/core/TensorBody.h>

#include "worker/trainer/model/pass.h"

namespace studio {

// As SelfAttention (attention.h): qkv [T, (heads + 2 * kv_heads) * head_dim] is consumed; [T, heads * head_dim].
at::Tensor BlockedAttention(const at::Tensor& qkv, const PassPtr& pass, int64_t block = 256);

}  // namespace studio
