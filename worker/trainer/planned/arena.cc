#include "worker/trainer/planned/arena.h"

#include <ATen/ops/zeros.h>

#include "common/status/check.h"

namespace studio::planned {

Arena::Arena(int64_t bytes, at::ScalarType compute, at::Device device) {
  // Zeros: columns of a border that no adapter fills are multiplied by zeros, which NaN would survive.
  const at::Tensor storage = at::zeros({bytes}, at::TensorOptions(device).dtype(at::kByte));
  compute_ = storage.view(compute);
  fp32_ = storage.view(at::kFloat);
}

at::Tensor Arena::View(const Matrix& matrix, int64_t rows, int64_t width) const {
  STUDIO_CHECK(rows * width <= matrix.rows * matrix.width)
      << rows << " x " << width << " in a place for " << matrix.rows << " x " << matrix.width;
  const at::Tensor& all = matrix.fp32 ? fp32_ : compute_;
  return all.as_strided({rows, width}, {width, 1}, matrix.offset / all.element_size());
}

}  // namespace studio::planned
