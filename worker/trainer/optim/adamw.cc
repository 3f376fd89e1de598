#include "worker/trainer/optim/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_zero.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>

#include "common/status/check.h"

namespace studio {

AdamW::AdamW(NamedTensors parameters, Options options) : parameters_(std::move(parameters)), options_(options) {
  STUDIO_CHECK(!parameters_.empty()) << "an optimizer without parameters";
  at::NoGradGuard no_grad;
  step_ = at::full({}, 0.0, parameters_[0].second.options().dtype(at::kFloat).requires_grad(false));
  Group decayed, plain;
  decayed.weight_decay = options_.weight_decay;
  for (auto& [name, parameter] : parameters_) {
    STUDIO_CHECK(parameter.is_leaf() && parameter.requires_grad()) << name;
    // An fp32 parameter is its own master: detach() shares its memory.
    const at::Tensor master = parameter.detach().to(at::kFloat);
    const at::Tensor grad = at::zeros_like(master);
    // The backward pass then adds to our memory in place, and no step allocates gradients.
    if (parameter.scalar_type() == at::kFloat) parameter.mutable_grad() = grad;
    masters_.push_back(master);
    grads_.push_back(grad);
    exp_avgs_.push_back(at::zeros_like(master));
    exp_avg_sqs_.push_back(at::zeros_like(master));
    Group& group = parameter.dim() >= 2 ? decayed : plain;
    group.masters.push_back(masters_.back());
    group.grads.push_back(grads_.back());
    group.exp_avgs.push_back(exp_avgs_.back());
    group.exp_avg_sqs.push_back(exp_avg_sqs_.back());
    group.steps.push_back(step_);
  }
  if (!decayed.masters.empty()) groups_.push_back(std::move(decayed));
  if (!plain.masters.empty()) groups_.push_back(std::move(plain));
}

void AdamW::ZeroGrads() {
  at::NoGradGuard no_grad;
  at::_foreach_zero_(grads_);
}

void AdamW::CollectGrads() {
  at::NoGradGuard no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& parameter = parameters_[i].second;
    at::Tensor& grad = parameter.mutable_grad();
    if (!grad.defined() || grad.is_same(grads_[i])) continue;
    grads_[i].add_(grad);
    if (parameter.scalar_type() == at::kFloat) {
      grad = grads_[i];
    } else {
      grad.reset();
    }
  }
}

void AdamW::Step(double learning_rate) {
  at::NoGradGuard no_grad;
  ++steps_;
  step_.fill_(static_cast<double>(steps_));
  for (Group& group : groups_) {
    at::_fused_adamw_(group.masters, group.grads, group.exp_avgs, group.exp_avg_sqs, /*max_exp_avg_sqs=*/{},
                      group.steps, learning_rate, options_.beta1, options_.beta2, group.weight_decay, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  CopyMastersToParameters();
}

void AdamW::CopyMastersToParameters() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    at::Tensor& parameter = parameters_[i].second;
    if (parameter.scalar_type() != at::kFloat) parameter.detach().copy_(masters_[i]);
  }
}

NamedTensors AdamW::State() const {
  NamedTensors state;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const std::string& name = parameters_[i].first;
    state.emplace_back(name, masters_[i]);
    state.emplace_back(name + "#exp_avg", exp_avgs_[i]);
    state.emplace_back(name + "#exp_avg_sq", exp_avg_sqs_[i]);
  }
  return state;
}

void AdamW::Restore(int64_t steps) {
  at::NoGradGuard no_grad;
  steps_ = steps;
  CopyMastersToParameters();
}

}  // namespace studio
