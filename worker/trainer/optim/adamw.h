// AdamW with fp32 states for every parameter; see fused_adamw.h for the formula.
//
//   AdamW optimizer(parameters, {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01});
#pragma once

#include <vector>

#include "worker/trainer/optim/fused_adamw.h"
#include "worker/trainer/optim/optimizer.h"

namespace studio {

class AdamW : public Optimizer {
 public:
  AdamW(const std::vector<Parameter>& parameters, Options options);
  NamedTensors State() const override;

 private:
  void Update(double learning_rate) override { fused_.Update(learning_rate, steps()); }

  FusedAdamW fused_;
};

}  // namespace studio
