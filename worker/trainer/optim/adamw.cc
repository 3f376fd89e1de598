#include "worker/trainer/optim/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "common/status/check.h"

namespace studio {
namespace {

// Gradients begin on cache lines, which vector kernels like.
int64_t RoomFor(const at::Tensor& tensor) { return (tensor.numel() + 15) / 16 * 16; }

}  // namespace

AdamW::AdamW(std::vector<Parameter> parameters, Options options)
    : parameters_(std::move(parameters)), options_(options) {
  STUDIO_CHECK(!parameters_.empty()) << "an optimizer without parameters";
  at::NoGradGuard no_grad;
  step_ = at::full({}, 0.0, parameters_[0].tensor.options().requires_grad(false));
  int64_t room = 0;
  for (const Parameter& parameter : parameters_) room += RoomFor(parameter.tensor);
  flat_grads_ = at::zeros({room}, step_.options());
  int64_t used = 0;
  Group decayed, plain;
  decayed.weight_decay = options_.weight_decay;
  for (const auto& [name, tensor, decay] : parameters_) {
    STUDIO_CHECK(tensor.is_leaf() && tensor.requires_grad() && tensor.scalar_type() == at::kFloat) << name;
    // detach() shares memory and version counter, so whoever caches a copy of the weight notices the update.
    weights_.push_back(tensor.detach());
    grads_.push_back(flat_grads_.narrow(0, used, tensor.numel()).view(tensor.sizes()));
    used += RoomFor(tensor);
    exp_avgs_.push_back(at::zeros_like(weights_.back()));
    exp_avg_sqs_.push_back(at::zeros_like(weights_.back()));
    // Where a gradient exists the backward pass adds to it in place: no step allocates any.
    tensor.mutable_grad() = grads_.back();
    Group& group = decay ? decayed : plain;
    group.weights.push_back(weights_.back());
    group.grads.push_back(grads_.back());
    group.exp_avgs.push_back(exp_avgs_.back());
    group.exp_avg_sqs.push_back(exp_avg_sqs_.back());
    group.steps.push_back(step_);
  }
  if (!decayed.weights.empty()) groups_.push_back(std::move(decayed));
  if (!plain.weights.empty()) groups_.push_back(std::move(plain));
}

void AdamW::ZeroGrads() {
  at::NoGradGuard no_grad;
  flat_grads_.zero_();
}

void AdamW::Step(double learning_rate) {
  at::NoGradGuard no_grad;
  ++steps_;
  step_.fill_(static_cast<double>(steps_));
  for (Group& group : groups_) {
    at::_fused_adamw_(group.weights, group.grads, group.exp_avgs, group.exp_avg_sqs, /*max_exp_avg_sqs=*/{},
                      group.steps, learning_rate, options_.beta1, options_.beta2, group.weight_decay, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  // The fused kernel does not count versions, by which copies of the weights in other types are refreshed.
  for (const at::Tensor& weight : weights_) weight.unsafeGetTensorImpl()->bump_version();
}

std::vector<std::pair<std::string, at::Tensor>> AdamW::State() const {
  std::vector<std::pair<std::string, at::Tensor>> state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    state.emplace_back(parameters_[i].name, weights_[i]);
    state.emplace_back(parameters_[i].name + "#exp_avg", exp_avgs_[i]);
    state.emplace_back(parameters_[i].name + "#exp_avg_sq", exp_avg_sqs_[i]);
  }
  return state;
}

}  // namespace studio
