#include "worker/trainer/optim/kernel_adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/zeros_like.h>

#include <utility>

#include "common/status/check.h"
#include "worker/trainer/model/counter_random.h"

namespace studio {

KernelAdamW::KernelAdamW(const std::vector<Parameter>& parameters, Options options,
                         std::shared_ptr<const kernels::Operations> operations)
    : Optimizer(parameters, options), operations_(std::move(operations)) {
  STUDIO_CHECK(operations_ != nullptr) << "no operations";
  at::NoGradGuard no_grad;
  sum_of_squares_ = at::full({}, 0.0, flat_grads().options().dtype(at::kFloat));
  for (size_t i = 0; i < parameters.size(); ++i) {
    names_.push_back(parameters[i].name);
    exp_avgs_.push_back(at::zeros_like(weights()[i]));
    exp_avg_sqs_.push_back(at::zeros_like(weights()[i]));
    parts_.push_back({weights()[i].view({-1}), grads()[i].view({-1}), exp_avgs_[i].view({-1}),
                      exp_avg_sqs_[i].view({-1}), parameters[i].decay});
  }
}

at::Tensor KernelAdamW::Clip(double max_norm) {
  operations_->SumOfSquares(flat_grads(), sum_of_squares_);
  max_norm_ = max_norm;
  return at::sqrt(sum_of_squares_);
}

void KernelAdamW::Update(double learning_rate) {
  STUDIO_CHECK(max_norm_ >= 0) << "this optimizer steps by ClipAndStep";
  const kernels::AdamWOptions kernel{options().beta1, options().beta2, options().epsilon, options().weight_decay,
                                     std::exchange(max_norm_, -1)};
  if (flat_grads().scalar_type() == at::kBFloat16) return UpdateByChance(kernel, learning_rate);
  operations_->AdamWStep(parts_, sum_of_squares_, kernel, learning_rate, steps());
}

void KernelAdamW::UpdateByChance(const kernels::AdamWOptions& kernel, double learning_rate) {
  const uint64_t key = RandomKey(RandomKey(options().seed, "adamw"), static_cast<uint64_t>(steps()));
  for (const kernels::AdamWPart& part : parts_) {
    // Its bits are counted from its place among all gradients.
    const int64_t begin = part.grad.storage_offset() - flat_grads().storage_offset();
    operations_->AdamWStepByChance(part, sum_of_squares_, kernel, learning_rate, steps(), key,
                                   static_cast<uint64_t>(begin));
  }
}

Optimizer::NamedTensors KernelAdamW::State() const {
  NamedTensors state;
  for (size_t i = 0; i < names_.size(); ++i) {
    state.emplace_back(names_[i], weights()[i]);
    state.emplace_back(names_[i] + "#exp_avg", exp_avgs_[i]);
    state.emplace_back(names_[i] + "#exp_avg_sq", exp_avg_sqs_[i]);
  }
  return state;
}

}  // namespace studio
