#include "worker/trainer/planned/attention.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <torch/csrc/autograd/autograd.h>

#include <tuple>

#include "common/status/check.h"
#include "worker/trainer/model/attention.h"
#include "worker/trainer/planned/attention_figures.h"

namespace studio::planned {
namespace {

// q, k and v of qkv as [T, heads, head_dim] each.
std::tuple<at::Tensor, at::Tensor, at::Tensor> Heads(const at::Tensor& qkv, const Pass& pass) {
  const at::Tensor heads = qkv.view({qkv.size(0), -1, pass.head_dim});
  return {heads.narrow(1, 0, pass.heads), heads.narrow(1, pass.heads, pass.kv_heads),
          heads.narrow(1, pass.heads + pass.kv_heads, pass.kv_heads)};
}

// [T, heads, head_dim] as [sequences, heads, length, head_dim].
at::Tensor Sequences(const at::Tensor& x, const Pass& pass) {
  return x.unflatten(0, {-1, pass.longest}).transpose(1, 2);
}

}  // namespace

bool OneLength(const Pass& pass) {
  const int64_t segments = static_cast<int64_t>(pass.cu_seqlens.size()) - 1;
  return segments * pass.longest == pass.tokens();
}

AttentionKind ChooseAttention(const Pass& pass, at::ScalarType dtype, at::Device device, bool full) {
  if (pass.attention != Attention::kFlash) return AttentionKind::kReference;
  return full ? AttentionCandidates(OneLength(pass), pass.head_dim).front() : AttentionKind::kFlash;
}

AttentionSaved AttentionForward(AttentionKind kind, const kernels::Operations& ops, const at::Tensor& qkv,
                                const PassPtr& pass) {
  AttentionSaved saved;
  if (kind == AttentionKind::kReference) {
    at::AutoGradMode grad(true);
    // With a version counter of its own: the arena's counts every write anywhere in it.
    saved.leaf = qkv.variable_data().requires_grad_(true);
    saved.raw_out = SelfAttention(saved.leaf, pass);
    saved.out = saved.raw_out.detach();
    return saved;
  }
  ops.RopeInPlace(qkv, pass->cosine, pass->sine, pass->heads + pass->kv_heads, pass->head_dim, 1);
  std::tie(saved.q, saved.k, saved.v) = Heads(qkv, *pass);
  if (kind == AttentionKind::kFlash) {
    std::tie(saved.raw_out, saved.log_sum_exp, saved.seed, saved.offset, std::ignore) = at::_flash_attention_forward(
        saved.q, saved.k, saved.v, pass->cu_seqlens_device, pass->cu_seqlens_device, pass->longest, pass->longest, 0.0,
        /*is_causal=*/true, /*return_debug_mask=*/false);
    saved.out = saved.raw_out.view({qkv.size(0), -1});
    return saved;
  }
  saved.q = Sequences(saved.q, *pass);
  saved.k = Sequences(saved.k, *pass);
  saved.v = Sequences(saved.v, *pass);
  auto result = at::_scaled_dot_product_cudnn_attention(saved.q, saved.k, saved.v, /*attn_bias=*/{},
                                                        /*compute_log_sumexp=*/true, 0.0, /*is_causal=*/true);
  saved.raw_out = std::get<0>(result);
  saved.log_sum_exp = std::get<1>(result);
  saved.seed = std::get<6>(result);
  saved.offset = std::get<7>(result);
  // It has q's order of dimensions, so this is a view.
  saved.out = saved.raw_out.transpose(1, 2).reshape({qkv.size(0), -1});
  return saved;
}

void AttentionBackward(AttentionKind kind, const kernels::Operations& ops, const AttentionSaved& saved,
                       const at::Tensor& d_out, const PassPtr& pass, const at::Tensor& d_qkv) {
  if (kind == AttentionKind::kReference) {
    const auto gradients = torch::autograd::grad({saved.raw_out}, {saved.leaf}, {d_out});
    d_qkv.copy_(gradients[0]);
    return;
  }
  at::Tensor dq, dk, dv;
  const at::Tensor d_heads = d_out.view({d_out.size(0), pass->heads, pass->head_dim});
  if (kind == AttentionKind::kFlash) {
    std::tie(dq, dk, dv) = at::_flash_attention_backward(d_heads, saved.q, saved.k, saved.v, saved.raw_out,
                                                         saved.log_sum_exp, pass->cu_seqlens_device,
                                                         pass->cu_seqlens_device, pass->longest, pass->longest, 0.0,
                                                         /*is_causal=*/true, saved.seed, saved.offset);
    for (at::Tensor* d : {&dq, &dk, &dv}) *d = d->transpose(0, 1).unsqueeze(0);
  } else {
    std::tie(dq, dk, dv) = at::_scaled_dot_product_cudnn_attention_backward(
        Sequences(d_heads, *pass), saved.q, saved.k, saved.v, saved.raw_out, saved.log_sum_exp, saved.seed,
        saved.offset, /*attn_bias=*/at::Tensor(), /*cum_seq_q=*/at::Tensor(), /*cum_seq_k=*/at::Tensor(), pass->longest,
        pass->longest, 0.0, /*is_causal=*/true);
  }
  ops.RopeBackwardGather(dq, dk, dv, pass->cosine, pass->sine, d_qkv);
}

}  // namespace studio::planned
