// Operations that LibTorch 2.7 lacks or has in part: LibTorch's own where it has them, else the same from older ones.
//
//   auto [normed, rstd] = libtorch::FusedRmsNorm(x, weight, eps);
//
// Throws what LibTorch throws. Any thread. The formulae differ in the order of their sums alone.
#pragma once

#include <ATen/core/TensorBody.h>

#include <tuple>

namespace studio::libtorch {

// {x / rms(x) * weight, 1 / rms(x) in fp32 [rows, 1]} of x [rows, width] and weight [width] of one type; eps is added
// to the mean square.
std::tuple<at::Tensor, at::Tensor> FusedRmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps);

// {d_x, d_weight}; d_weight is undefined where it is not wanted.
std::tuple<at::Tensor, at::Tensor> FusedRmsNormBackward(const at::Tensor& d_normed, const at::Tensor& x,
                                                        const at::Tensor& rstd, const at::Tensor& weight,
                                                        bool weight_grad);

// out [M, N] fp32 = a [M, K] b [K, N] of a half precision, summed in fp32 and never rounded below it. On CUDA.
void ProductInFloat(const at::Tensor& a, const at::Tensor& b, at::Tensor out);

// Causal FlashAttention for CPUs: q [rows, heads, length, head_dim], k and v [rows, kv_heads, length, head_dim], where
// kv_heads divides heads. {what is attended, in q's shape, and the logarithm of each row's sum, for the backward pass}.
std::tuple<at::Tensor, at::Tensor> CpuFlashAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);
// {dq, dk, dv}.
std::tuple<at::Tensor, at::Tensor, at::Tensor> CpuFlashAttentionBackward(const at::Tensor& d_out, const at::Tensor& q,
                                                                         const at::Tensor& k, const at::Tensor& v,
                                                                         const at::Tensor& out,
                                                                         const at::Tensor& log_sum);

}  // namespace studio::libtorch
