#include "worker/trainer/optim/dynamic_map.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <vector>

namespace studio {

at::Tensor DynamicMap(bool is_signed) {
  constexpr int kExponents = 7;
  std::vector<at::Tensor> parts = {at::tensor({0.0f, 1.0f})};
  for (int i = 0; i < kExponents; ++i) {
    const int64_t fractions = int64_t{1} << (is_signed ? i : i + 1);
    const at::Tensor edges = at::linspace(0.1, 1, fractions + 1, at::kFloat);
    const at::Tensor means = (edges.narrow(0, 0, fractions) + edges.narrow(0, 1, fractions)) / 2.0;
    const at::Tensor values = means * std::pow(10.0, i - (kExponents - 1));
    parts.push_back(values);
    if (is_signed) parts.push_back(-values);
  }
  return std::get<0>(at::sort(at::cat(parts)));
}

}  // namespace studio
