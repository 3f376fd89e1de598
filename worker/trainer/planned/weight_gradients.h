// Gradients of weights that are trained themselves: each a product straight into the parameter's grad(), which the
// optimizer laid into one flat buffer, and added to what earlier micro batches left there. The product adds up in fp32
// and is rounded once, to the grad's type, with the sum.
//
//   AddWeightGradients(layer.down, dy, activation);    // weights of [out, in] += dy [T, out]ᵀ x [T, in]; biases too
//
// A parameter without a grad() gets one of zeros. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include "worker/trainer/model/linear_group.h"

namespace studio::planned {

// Of the leaf, made where it lacks.
at::Tensor GradOf(const at::Tensor& leaf);

// grad [N, M] += x [T, N]ᵀ y [T, M]; all of one type.
void AddProduct(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& y);

// Members whose gradients lie behind each other are one product.
void AddWeightGradients(const LinearGroup& group, const at::Tensor& dy, const at::Tensor& x);

}  // namespace studio::planned
