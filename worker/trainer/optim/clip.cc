#include "worker/trainer/optim/clip.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>

namespace studio {

at::Tensor ClipGradNorm(const std::vector<at::Tensor>& grads, double max_norm) {
  at::NoGradGuard no_grad;
  const at::Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(grads, 2)), 2);
  // Multiplying by 1 where nothing is to clip is cheaper than waiting for the device to know.
  if (max_norm > 0) at::_foreach_mul_(grads, at::clamp(max_norm / (norm + 1e-6), std::nullopt, 1.0));
  return norm;
}

}  // namespace studio
