#include "worker/trainer/optim/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "common/status/check.h"
#include "worker/trainer/model/counter_random.h"
#include "worker/trainer/optim/clip.h"

namespace studio {
namespace {

// Gradients begin on cache lines, which vector kernels like.
int64_t RoomFor(const at::Tensor& tensor) { return (tensor.numel() + 15) / 16 * 16; }

}  // namespace

AdamW::AdamW(std::vector<Parameter> parameters, Options options, std::shared_ptr<const kernels::Operations> operations)
    : parameters_(std::move(parameters)), options_(options), operations_(std::move(operations)) {
  STUDIO_CHECK(!parameters_.empty()) << "an optimizer without parameters";
  at::NoGradGuard no_grad;
  const at::ScalarType type = parameters_[0].tensor.scalar_type();
  STUDIO_CHECK(type == at::kFloat || (type == at::kBFloat16 && operations_ != nullptr))
      << "parameters are " << at::toString(type);
  const auto number = parameters_[0].tensor.options().dtype(at::kFloat).requires_grad(false);
  step_ = at::full({}, 0.0, number);
  sum_of_squares_ = at::full({}, 0.0, number);
  int64_t room = 0;
  for (const Parameter& parameter : parameters_) room += RoomFor(parameter.tensor);
  flat_grads_ = at::zeros({room}, number.dtype(type));
  int64_t used = 0;
  Group decayed, plain;
  decayed.weight_decay = options_.weight_decay;
  for (const auto& [name, tensor, decay] : parameters_) {
    STUDIO_CHECK(tensor.is_leaf() && tensor.requires_grad() && tensor.scalar_type() == type) << name;
    // detach() shares memory and version counter, so whoever caches a copy of the weight notices the update.
    weights_.push_back(tensor.detach());
    grads_.push_back(flat_grads_.narrow(0, used, tensor.numel()).view(tensor.sizes()));
    begins_.push_back(used);
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

at::Tensor AdamW::ClipAndStep(double learning_rate, double max_norm) {
  if (!narrow()) {
    at::Tensor norm = ClipGradNorm(grads_, max_norm);
    Step(learning_rate);
    return norm;
  }
  at::NoGradGuard no_grad;
  operations_->SumOfSquares(flat_grads_, sum_of_squares_);
  StepByChance(learning_rate, max_norm, sum_of_squares_);
  return at::sqrt(sum_of_squares_);
}

// A launch for each parameter: weights lie where the model keeps them. Clipping is part of the same pass.
void AdamW::StepByChance(double learning_rate, double max_norm, const at::Tensor& sum_of_squares) {
  ++steps_;
  const uint64_t key = RandomKey(RandomKey(options_.seed, "adamw"), static_cast<uint64_t>(steps_));
  kernels::AdamWOptions options{options_.beta1, options_.beta2, options_.epsilon, 0, max_norm};
  for (size_t i = 0; i < parameters_.size(); ++i) {
    options.weight_decay = parameters_[i].decay ? options_.weight_decay : 0;
    operations_->AdamWStepByChance(weights_[i].view({-1}), grads_[i].view({-1}), exp_avgs_[i].view({-1}),
                                   exp_avg_sqs_[i].view({-1}), sum_of_squares, options, learning_rate, steps_, key,
                                   static_cast<uint64_t>(begins_[i]));
  }
  CountVersions();
}

void AdamW::Step(double learning_rate) {
  STUDIO_CHECK(!narrow()) << "bf16 parameters step by ClipAndStep";
  at::NoGradGuard no_grad;
  ++steps_;
  step_.fill_(static_cast<double>(steps_));
  for (Group& group : groups_) {
    at::_fused_adamw_(group.weights, group.grads, group.exp_avgs, group.exp_avg_sqs, /*max_exp_avg_sqs=*/{},
                      group.steps, learning_rate, options_.beta1, options_.beta2, group.weight_decay, options_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false);
  }
  CountVersions();
}

// Kernels do not count versions, by which copies of the weights in other types are refreshed.
void AdamW::CountVersions() {
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
