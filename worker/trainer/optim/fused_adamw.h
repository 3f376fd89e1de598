// AdamW with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2) and
// fp32 states over some tensors, by LibTorch's fused kernel. A part of optimizers; the same numbers as
// torch.optim.AdamW(fused=True). Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <string>
#include <vector>

#include "worker/trainer/optim/optimizer.h"

namespace studio {

class FusedAdamW {
 public:
  explicit FusedAdamW(const Optimizer::Options& options) : options_(options) {}

  // `weight` and `grad`: fp32 of one shape, all on one device. Allocates the states.
  void Add(const std::string& name, const at::Tensor& weight, const at::Tensor& grad, bool decay);

  // Step `step`, from 1. Nothing was added: nothing happens.
  void Update(double learning_rate, int64_t step);

  // "<name>", "<name>#exp_avg", "<name>#exp_avg_sq" of each, as Optimizer::State.
  void AppendState(Optimizer::NamedTensors& state) const;

 private:
  // Tensors of one weight decay, as the kernel takes them.
  struct Group {
    std::vector<std::string> names;
    std::vector<at::Tensor> weights, grads, exp_avgs, exp_avg_sqs, steps;
  };
  void UpdateGroup(Group& group, double weight_decay, double learning_rate);

  const Optimizer::Options options_;
  // A fp32 number on the device, which the kernel reads.
  at::Tensor step_;
  Group decayed_, plain_;
};

}  // namespace studio
