// The memory of a layout, and its matrices as tensors.
//
//   Arena arena(layout.total_bytes, at::kBFloat16, device);    // throws out of memory here
//   at::Tensor x = arena.Rows(layout.stream, tokens);          // [tokens, width]; a view, nothing is copied
//
// Views live as long as the arena. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>

#include "worker/trainer/planned/layout.h"

namespace studio::planned {

class Arena {
 public:
  Arena(int64_t bytes, at::ScalarType compute, at::Device device);

  // The first rows of `matrix`.
  at::Tensor Rows(const Matrix& matrix, int64_t rows) const { return View(matrix, rows, matrix.width); }
  // The same memory as rows of another width, one behind the other.
  at::Tensor View(const Matrix& matrix, int64_t rows, int64_t width) const;

 private:
  at::Tensor compute_, fp32_;  // both over all of the arena
};

// Columns [0, width) of a matrix with a border.
inline at::Tensor Columns(const at::Tensor& x, int64_t width) { return x.narrow(1, 0, width); }

}  // namespace studio::planned
