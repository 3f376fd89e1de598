// AdamW whose states take two bytes a number instead of eight, by bitsandbytes (blockwise_adam.h). As there, tensors
// below 4,096 numbers keep fp32 states, which cost nothing and matter most.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<BlockwiseAdam> adam, BlockwiseAdam::Load(device));
//   AdamW8bit optimizer(parameters, {.weight_decay = 0.01}, std::move(adam));
#pragma once

#include <memory>
#include <vector>

#include "worker/trainer/optim/blockwise_adam.h"
#include "worker/trainer/optim/fused_adamw.h"
#include "worker/trainer/optim/optimizer.h"

namespace studio {

class AdamW8bit : public Optimizer {
 public:
  // bitsandbytes' min_8bit_size.
  static constexpr int64_t kSmallestQuantised = 4096;

  AdamW8bit(const std::vector<Parameter>& parameters, Options options, std::unique_ptr<BlockwiseAdam> adam);

  // "<parameter>" with "#exp_avg_8bit", "#exp_avg_absmax", "#exp_avg_sq_8bit", "#exp_avg_sq_absmax", or AdamW's.
  NamedTensors State() const override;

 private:
  struct Quantised {
    std::string name;
    at::Tensor weight, grad;
    bool decay = true;
    BlockwiseState state;
  };
  void Update(double learning_rate) override;

  const std::unique_ptr<BlockwiseAdam> adam_;
  std::vector<Quantised> quantised_;
  FusedAdamW small_;
};

}  // namespace studio
