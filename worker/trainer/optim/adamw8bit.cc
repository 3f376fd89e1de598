#include "worker/trainer/optim/adamw8bit.h"

#include <utility>

namespace studio {

AdamW8bit::AdamW8bit(const std::vector<Parameter>& parameters, Options options, std::unique_ptr<BlockwiseAdam> adam)
    : Optimizer(parameters, options), adam_(std::move(adam)), small_(options) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, tensor, decay] = parameters[i];
    if (tensor.numel() < kSmallestQuantised) {
      small_.Add(name, weights()[i], grads()[i], decay);
    } else {
      quantised_.push_back({name, weights()[i], grads()[i], decay, BlockwiseAdam::MakeState(weights()[i])});
    }
  }
}

void AdamW8bit::Update(double learning_rate) {
  small_.Update(learning_rate, steps());
  BlockwiseStep step = {.beta1 = options().beta1, .beta2 = options().beta2, .epsilon = options().epsilon};
  step.learning_rate = learning_rate;
  step.step = steps();
  for (Quantised& parameter : quantised_) {
    step.weight_decay = parameter.decay ? options().weight_decay : 0;
    adam_->Update(parameter.weight, parameter.grad, parameter.state, step);
  }
}

Optimizer::NamedTensors AdamW8bit::State() const {
  NamedTensors state;
  for (const Quantised& parameter : quantised_) {
    state.emplace_back(parameter.name, parameter.weight);
    state.emplace_back(parameter.name + "#exp_avg_8bit", parameter.state.exp_avg);
    state.emplace_back(parameter.name + "#exp_avg_absmax", parameter.state.exp_avg_absmax);
    state.emplace_back(parameter.name + "#exp_avg_sq_8bit", parameter.state.exp_avg_sq);
    state.emplace_back(parameter.name + "#exp_avg_sq_absmax", parameter.state.exp_avg_sq_absmax);
  }
  small_.AppendState(state);
  return state;
}

}  // namespace studio
