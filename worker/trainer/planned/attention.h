// Causal attention of the planned step, rotary embedding included, with an explicit backward pass.
//
//   AttentionKind kind = ChooseAttention(pass, dtype, device, /*full=*/true);
//   AttentionSaved saved = AttentionForward(kind, ops, qkv, pass);     // saved.out [T, heads * head_dim]
//   AttentionBackward(kind, ops, saved, d_out, pass, d_qkv);
//
// Outputs come from LibTorch's allocator: its attention writes to no memory of ours.
#pragma once

#include <ATen/core/TensorBody.h>

#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/model/pass.h"
#include "worker/trainer/planned/attention_kind.h"

namespace studio::planned {

// Every sequence is as long as the longest.
bool OneLength(const Pass& pass);

// Unmeasured (measured_attention.h chooses by figures). `full`: the micro batch is of the size that most are. cuDNN
// makes a plan for each new shape, which takes longer than it saves on a shape that comes once.
AttentionKind ChooseAttention(const Pass& pass, at::ScalarType dtype, at::Device device, bool full);

struct AttentionSaved {
  at::Tensor out;      // [T, heads * head_dim]
  at::Tensor q, k, v;  // views of qkv, turned
  at::Tensor raw_out;  // as the library returned it; kReference: with its graph
  at::Tensor log_sum_exp;
  at::Tensor seed, offset;  // of a dropout that is off; the libraries ask for them all the same
  at::Tensor leaf;          // kReference: the input of the graph
};

// qkv [T, (heads + 2 kv_heads) * head_dim] is consumed: q and k are turned in place. It must outlive `saved`.
AttentionSaved AttentionForward(AttentionKind kind, const kernels::Operations& ops, const at::Tensor& qkv,
                                const PassPtr& pass);

// d_qkv [T, (heads + 2 kv_heads) * head_dim], a view of wider rows perhaps, from d_out [T, heads * head_dim].
void AttentionBackward(AttentionKind kind, const kernels::Operations& ops, const AttentionSaved& saved,
                       const at::Tensor& d_out, const PassPtr& pass, const at::Tensor& d_qkv);

}  // namespace studio::planned
