// AdamW over bf16 parameters without a copy of more bits anywhere: gradients and states are bf16 too, and what a step
// makes of them is rounded by chance (docs/precision.md). Clipping is part of the same pass.
//
//   AdamWByChance optimizer(parameters, {.weight_decay = 0.01, .seed = 1}, operations);
//   const at::Tensor norm = optimizer.ClipAndStep(learning_rate, 1.0);
//
// Steps by ClipAndStep alone. A norm that is not finite leaves the weights as they are.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/optim/optimizer.h"

namespace studio {

class AdamWByChance : public Optimizer {
 public:
  AdamWByChance(const std::vector<Parameter>& parameters, Options options,
                std::shared_ptr<const kernels::Operations> operations);
  NamedTensors State() const override;

 private:
  // Of one parameter; `begin`: where it lies in flat_grads(), what its random bits are counted from.
  struct Moments {
    std::string name;
    bool decay = true;
    at::Tensor exp_avg, exp_avg_sq;
    uint64_t begin = 0;
  };
  at::Tensor Clip(double max_norm) override;
  void Update(double learning_rate) override;

  const std::shared_ptr<const kernels::Operations> operations_;
  std::vector<Moments> moments_;
  // A fp32 number on the device, which kernels read.
  at::Tensor sum_of_squares_;
  // Since Clip; negative: Update would use the norm of another step.
  double max_norm_ = -1;
};

}  // namespace studio
