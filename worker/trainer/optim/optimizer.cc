#include "worker/trainer/optim/optimizer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "common/status/check.h"
#include "worker/trainer/optim/clip.h"

namespace studio {
namespace {

// Gradients begin on cache lines, which vector kernels like.
int64_t RoomFor(const at::Tensor& tensor) { return (tensor.numel() + 15) / 16 * 16; }

}  // namespace

Optimizer::Optimizer(const std::vector<Parameter>& parameters, Options options) : options_(options) {
  STUDIO_CHECK(!parameters.empty()) << "an optimizer without parameters";
  at::NoGradGuard no_grad;
  const at::ScalarType type = parameters[0].tensor.scalar_type();
  STUDIO_CHECK(type == at::kFloat || type == at::kBFloat16) << "parameters are " << at::toString(type);
  int64_t room = 0;
  for (const Parameter& parameter : parameters) room += RoomFor(parameter.tensor);
  flat_grads_ = at::zeros({room}, parameters[0].tensor.options().requires_grad(false));
  int64_t used = 0;
  for (const auto& [name, tensor, decay] : parameters) {
    STUDIO_CHECK(tensor.is_leaf() && tensor.requires_grad() && tensor.scalar_type() == type) << name;
    // detach() shares memory and version counter, so whoever caches a copy of the weight notices the update.
    weights_.push_back(tensor.detach());
    grads_.push_back(flat_grads_.narrow(0, used, tensor.numel()).view(tensor.sizes()));
    used += RoomFor(tensor);
    // Where a gradient exists the backward pass adds to it in place: no step allocates any.
    tensor.mutable_grad() = grads_.back();
  }
}

void Optimizer::ZeroGrads() {
  at::NoGradGuard no_grad;
  flat_grads_.zero_();
}

at::Tensor Optimizer::Clip(double max_norm) { return ClipGradNorm(grads_, max_norm); }

at::Tensor Optimizer::ClipAndStep(double learning_rate, double max_norm) {
  at::NoGradGuard no_grad;
  at::Tensor norm = Clip(max_norm);
  Step(learning_rate);
  return norm;
}

void Optimizer::Step(double learning_rate) {
  at::NoGradGuard no_grad;
  ++steps_;
  Update(learning_rate);
  // Fused kernels do not count versions, by which copies of the weights in other types are refreshed.
  for (const at::Tensor& weight : weights_) weight.unsafeGetTensorImpl()->bump_version();
}

}  // namespace studio
