// What both implementations ask of their arguments before they touch memory. Aborts: a wrong shape is a bug in the
// caller's layout, never a person's input.
#pragma once

#include <ATen/core/TensorBody.h>

#include "worker/trainer/kernels/operations.h"

namespace studio::kernels {

void CheckRmsNormForward(const at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight,
                         const at::Tensor& normed, const at::Tensor& rstd);
void CheckRmsNormBackward(const at::Tensor& d_normed, const at::Tensor& normed, const at::Tensor& weight,
                          const at::Tensor& rstd, const at::Tensor& d_residual, const at::Tensor& d_weight);
void CheckRope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, int64_t heads,
               int64_t head_dim);
void CheckRopeBackward(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv, const at::Tensor& cosine,
                       const at::Tensor& sine, const at::Tensor& d_qkv);
void CheckGluForward(const at::Tensor& gate_up, const at::Tensor& out);
void CheckGluAdapter(const at::Tensor& gate_up, const at::Tensor& a, const at::Tensor& out, const at::Tensor& low);
void CheckGluBackward(const at::Tensor& d_out, const at::Tensor& gate_up, const at::Tensor& out);
void CheckGluAdapters(const at::Tensor& d_out, const at::Tensor& gate_up, const GluAdapters& adapters);
// x [T, D], its adapters' a [n r, D], and the product with it, [T, >= n r].
void CheckDropped(const at::Tensor& x, const at::Tensor& a, const at::Tensor& low, const AdapterDropout& dropout);
void CheckAdapterGradient(const AdapterGradient& gradient);
void CheckCrossEntropy(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& scale,
                       const at::Tensor& losses);
void CheckEmbeddingGradient(const at::Tensor& d_hidden, const at::Tensor& tokens, const at::Tensor& grad);
void CheckSumOfSquares(const at::Tensor& flat, const at::Tensor& sum);
void CheckAdamW(const AdamWPart& part, at::ScalarType type, const at::Tensor& sum_of_squares, int64_t step);
void CheckScaledCopy(const ScaledCopy& copy);

}  // namespace studio::kernels
