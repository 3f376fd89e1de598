#include "worker/trainer/optim/fused_adamw.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros_like.h>

namespace studio {

void FusedAdamW::Add(const std::string& name, const at::Tensor& weight, const at::Tensor& grad, bool decay) {
  if (!step_.defined()) step_ = at::full({}, 0.0, weight.options());
  Group& group = decay ? decayed_ : plain_;
  group.names.push_back(name);
  group.weights.push_back(weight);
  group.grads.push_back(grad);
  group.exp_avgs.push_back(at::zeros_like(weight));
  group.exp_avg_sqs.push_back(at::zeros_like(weight));
  group.steps.push_back(step_);
}

void FusedAdamW::Update(double learning_rate, int64_t step) {
  if (!step_.defined()) return;
  step_.fill_(static_cast<double>(step));
  UpdateGroup(decayed_, options_.weight_decay, learning_rate);
  UpdateGroup(plain_, 0, learning_rate);
}

void FusedAdamW::UpdateGroup(Group& group, double weight_decay, double learning_rate) {
  if (group.weights.empty()) return;
  at::_fused_adamw_(group.weights, group.grads, group.exp_avgs, group.exp_avg_sqs, /*max_exp_avg_sqs=*/{}, group.steps,
                    learning_rate, options_.beta1, options_.beta2, weight_decay, options_.epsilon,
                    /*amsgrad=*/false, /*maximize=*/false);
}

void FusedAdamW::AppendState(Optimizer::NamedTensors& state) const {
  for (const Group* group : {&decayed_, &plain_}) {
    for (size_t i = 0; i < group->names.size(); ++i) {
      state.emplace_back(group->names[i], group->weights[i]);
      state.emplace_back(group->names[i] + "#exp_avg", group->exp_avgs[i]);
      state.emplace_back(group->names[i] + "#exp_avg_sq", group->exp_avg_sqs[i]);
    }
  }
}

}  // namespace studio
