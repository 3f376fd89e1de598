#include "worker/trainer/libtorch/operations.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/mm.h>

#include "worker/trainer/libtorch/version.h"

#if STUDIO_LIBTORCH_SINCE(2, 11)
#include <ATen/ops/_fused_rms_norm.h>
#include <ATen/ops/_fused_rms_norm_backward.h>
#endif

namespace studio::libtorch {

namespace {

// At least fp32.
at::Tensor Wide(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? x : x.to(at::kFloat); }

#if !STUDIO_LIBTORCH_SINCE(2, 11)
// Each head of k or v once for every head of q that reads it: the kernel knows no groups.
at::Tensor ForEachHead(const at::Tensor& x, int64_t heads) {
  if (x.size(1) == heads) return x;
  return x.unsqueeze(2).expand({-1, -1, heads / x.size(1), -1, -1}).flatten(1, 2);
}

// The gradients of ForEachHead's result, summed to x's.
at::Tensor OverGroups(const at::Tensor& d, int64_t kv_heads) {
  if (d.size(1) == kv_heads) return d;
  return Wide(d.unflatten(1, {kv_heads, -1})).sum(2).to(d.scalar_type());
}
#endif

}  // namespace

// LibTorch's own has a backward pass for CUDA alone.
std::tuple<at::Tensor, at::Tensor> FusedRmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
#if STUDIO_LIBTORCH_SINCE(2, 11)
  if (x.is_cuda()) return at::_fused_rms_norm(x, {x.size(1)}, weight, eps);
#endif
  const at::Tensor wide = Wide(x);
  const at::Tensor rstd = (wide.square().mean(1, /*keepdim=*/true) + eps).rsqrt();
  return {(wide * rstd * Wide(weight)).to(x.scalar_type()), rstd};
}

std::tuple<at::Tensor, at::Tensor> FusedRmsNormBackward(const at::Tensor& d_normed, const at::Tensor& x,
                                                        const at::Tensor& rstd, const at::Tensor& weight,
                                                        bool weight_grad) {
#if STUDIO_LIBTORCH_SINCE(2, 11)
  if (x.is_cuda()) {
    return at::_fused_rms_norm_backward(d_normed, x, {x.size(1)}, rstd, weight, {true, weight_grad});
  }
#endif
  const at::Tensor x_hat = Wide(x) * rstd, d = Wide(d_normed), d_hat = d * Wide(weight);
  const at::Tensor d_x = rstd * (d_hat - x_hat * (d_hat * x_hat).mean(1, /*keepdim=*/true));
  return {d_x.to(x.scalar_type()), weight_grad ? (d * x_hat).sum(0).to(weight.scalar_type()) : at::Tensor()};
}

void ProductInFloat(const at::Tensor& a, const at::Tensor& b, at::Tensor out) {
#if STUDIO_LIBTORCH_SINCE(2, 11)
  at::mm_out(out, a, b, at::kFloat);
#else
  at::mm_out(out, Wide(a), Wide(b));
#endif
}

std::tuple<at::Tensor, at::Tensor> CpuFlashAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
#if STUDIO_LIBTORCH_SINCE(2, 11)
  return at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, /*is_causal=*/true);
#else
  return at::_scaled_dot_product_flash_attention_for_cpu(q, ForEachHead(k, q.size(1)), ForEachHead(v, q.size(1)), 0.0,
                                                         /*is_causal=*/true);
#endif
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> CpuFlashAttentionBackward(const at::Tensor& d_out, const at::Tensor& q,
                                                                         const at::Tensor& k, const at::Tensor& v,
                                                                         const at::Tensor& out,
                                                                         const at::Tensor& log_sum) {
#if STUDIO_LIBTORCH_SINCE(2, 11)
  return at::_scaled_dot_product_flash_attention_for_cpu_backward(d_out, q, k, v, out, log_sum, 0.0,
                                                                  /*is_causal=*/true);
#else
  auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      d_out, q, ForEachHead(k, q.size(1)), ForEachHead(v, q.size(1)), out, log_sum, 0.0, /*is_causal=*/true);
  return {dq, OverGroups(dk, k.size(1)), OverGroups(dv, v.size(1))};
#endif
}

}  // namespace studio::libtorch
