// Cross entropy of the head's product, without the logits of a whole batch in memory.
//
//   at::Tensor sum = HeadLoss(hidden, weight, labels, /*soft_cap=*/0, /*chunk_rows=*/512);   // fp64 scalar
//   sum.backward();
//
// Rows go through the head in chunks; with gradients on, a chunk's softmax becomes its gradient at once, so that the
// backward pass multiplies by one number. Logits are in the compute type, the softmax in fp32.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>

namespace studio {

// hidden [rows, H] in the compute type; weight [V, H] (fp32 leaf where trained); labels [rows], each within [0, V);
// soft_cap: Architecture::final_logit_soft_cap.
at::Tensor HeadLoss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels, double soft_cap,
                    int64_t chunk_rows);

// soft_cap * tanh(logits / soft_cap), and logits where it is 0. fp32.
at::Tensor SoftCapped(const at::Tensor& logits, double soft_cap);

}  // namespace studio
