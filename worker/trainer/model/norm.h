// Root-mean-square norm (arXiv:1910.07467), with the residual's addition in the same pass over memory.
//
//   auto [residual, normed] = AddRmsNorm(residual, delta, weight, eps);
//
// Statistics in fp32; the normed value is rounded to the compute type before it meets the weight, as in Transformers.
// Gradients flow to both inputs, and to the weight where it requires them.
#pragma once

#include <ATen/core/TensorBody.h>

#include <utility>

namespace studio {

// x [T, H] in the compute type, weight [H] of any type.
at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps);
// {x + delta, its norm}.
std::pair<at::Tensor, at::Tensor> AddRmsNorm(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                                             double eps);

}  // namespace studio
