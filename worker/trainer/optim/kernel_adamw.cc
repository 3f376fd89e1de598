#include "worker/trainer/optim/adamw_by_chance.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/zeros_like.h>

#include <utility>

#include "common/status/check.h"
#include "worker/trainer/model/counter_random.h"

namespace studio {

AdamWByChance::AdamWByChance(const std::vector<Parameter>& parameters, Options options,
                             std::shared_ptr<const kernels::Operations> operations)
    : Optimizer(parameters, options), operations_(std::move(operations)) {
  STUDIO_CHECK(operations_ != nullptr && flat_grads().scalar_type() == at::kBFloat16) << "bf16 parameters alone";
  at::NoGradGuard no_grad;
  sum_of_squares_ = at::full({}, 0.0, flat_grads().options().dtype(at::kFloat));
  for (size_t i = 0; i < parameters.size(); ++i) {
    moments_.push_back({parameters[i].name, parameters[i].decay, at::zeros_like(weights()[i]),
                        at::zeros_like(weights()[i]),
                        static_cast<uint64_t>(grads()[i].storage_offset() - flat_grads().storage_offset())});
  }
}

at::Tensor AdamWByChance::Clip(double max_norm) {
  operations_->SumOfSquares(flat_grads(), sum_of_squares_);
  max_norm_ = max_norm;
  return at::sqrt(sum_of_squares_);
}

// A launch for each parameter: weights lie where the model keeps them.
void AdamWByChance::Update(double learning_rate) {
  STUDIO_CHECK(max_norm_ >= 0) << "bf16 parameters step by ClipAndStep";
  const uint64_t key = RandomKey(RandomKey(options().seed, "adamw"), static_cast<uint64_t>(steps()));
  kernels::AdamWOptions kernel{options().beta1, options().beta2, options().epsilon, 0, std::exchange(max_norm_, -1)};
  for (size_t i = 0; i < moments_.size(); ++i) {
    const Moments& moments = moments_[i];
    kernel.weight_decay = moments.decay ? options().weight_decay : 0;
    operations_->AdamWStepByChance(weights()[i].view({-1}), grads()[i].view({-1}), moments.exp_avg.view({-1}),
                                   moments.exp_avg_sq.view({-1}), sum_of_squares_, kernel, learning_rate, steps(), key,
                                   moments.begin);
  }
}

Optimizer::NamedTensors AdamWByChance::State() const {
  NamedTensors state;
  for (size_t i = 0; i < moments_.size(); ++i) {
    state.emplace_back(moments_[i].name, weights()[i]);
    state.emplace_back(moments_[i].name + "#exp_avg", moments_[i].exp_avg);
    state.emplace_back(moments_[i].name + "#exp_avg_sq", moments_[i].exp_avg_sq);
  }
  return state;
}

}  // namespace studio
