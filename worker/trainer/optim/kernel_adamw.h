// AdamW by the operations of worker/trainer/kernels, with clipping inside its pass: fp32 parameters by one launch for
// all of them; bf16 ones without a copy of more bits anywhere, gradients and states bf16 too, and what a step makes of
// them rounded by chance (docs/precision.md).
//
//   KernelAdamW optimizer(parameters, {.weight_decay = 0.01, .seed = 1}, operations);
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

class KernelAdamW : public Optimizer {
 public:
  KernelAdamW(const std::vector<Parameter>& parameters, Options options,
              std::shared_ptr<const kernels::Operations> operations);
  NamedTensors State() const override;

 private:
  at::Tensor Clip(double max_norm) override;
  void Update(double learning_rate) override;
  void UpdateByChance(const kernels::AdamWOptions& kernel, double learning_rate);

  const std::shared_ptr<const kernels::Operations> operations_;
  // Of each parameter: its name, its tensors as flat ranges, and its states in its shape.
  std::vector<std::string> names_;
  std::vector<kernels::AdamWPart> parts_;
  std::vector<at::Tensor> exp_avgs_, exp_avg_sqs_;
  // A fp32 number on the device, which kernels read.
  at::Tensor sum_of_squares_;
  // Since Clip; negative: Update would use the norm of another step.
  double max_norm_ = -1;
};

}  // namespace studio
