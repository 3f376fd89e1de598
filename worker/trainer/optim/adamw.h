// AdamW with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2).
// Gradients and states are allocated when it is made: out of memory shows before step 1.
//
//   AdamW optimizer(parameters, {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01});
//   optimizer.ZeroGrads();
//   for (micro batch) loss.backward();  // adds to optimizer.grads() in place
//   const at::Tensor norm = optimizer.ClipAndStep(learning_rate, 1.0);
//
// Parameters in fp32: by LibTorch's fused kernel, the same numbers as torch.optim.AdamW(fused=True). Parameters in
// bf16, without a copy of more bits anywhere: gradients and states are bf16 too, and what a step makes of them is
// rounded by chance (docs/precision.md), by `operations`. Not thread-safe. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "worker/trainer/kernels/operations.h"

namespace studio {

class AdamW {
 public:
  struct Parameter {
    std::string name;
    // A leaf that requires a gradient, fp32 or bf16, all of one type; updated in place, and its grad() is set to memory
    // of the optimizer's.
    at::Tensor tensor;
    // Weight decay applies (matrices; never norms or biases).
    bool decay = true;
  };
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double weight_decay = 0;
    // Of the bits that bf16 parameters are rounded by.
    uint64_t seed = 1;
  };

  // `operations`: needed where parameters are bf16.
  AdamW(std::vector<Parameter> parameters, Options options,
        std::shared_ptr<const kernels::Operations> operations = nullptr);

  void ZeroGrads();
  // One step with the gradients there are. fp32 parameters alone.
  void Step(double learning_rate);
  // The same with gradients whose global L2 norm is at most `max_norm` (0: no clipping). Returns the norm before, a
  // fp32 scalar on the device that is not waited for. One that is not finite spoils fp32 weights and leaves bf16 ones
  // as they are: the caller ends the run when it reads it. Gradients are spent.
  at::Tensor ClipAndStep(double learning_rate, double max_norm);

  // One per parameter, in the parameters' order. Weights without their place in a graph: the same memory.
  const std::vector<at::Tensor>& weights() const { return weights_; }
  const std::vector<at::Tensor>& grads() const { return grads_; }
  // All gradients as one line of numbers (with zeros between some), of which each grad is a part: ranks sum it in one
  // go.
  const at::Tensor& flat_grads() const { return flat_grads_; }

  // What a resumed run needs, by name: "<parameter>", "<parameter>#exp_avg", "<parameter>#exp_avg_sq", and steps().
  // These are the live tensors: a restart copies into them and sets the count of steps.
  std::vector<std::pair<std::string, at::Tensor>> State() const;
  // Steps done, for the bias correction.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 private:
  // Tensors of one weight decay, as the fused kernel takes them.
  struct Group {
    double weight_decay = 0;
    std::vector<at::Tensor> weights, grads, exp_avgs, exp_avg_sqs, steps;
  };

  void StepByChance(double learning_rate, double max_norm, const at::Tensor& sum_of_squares);
  void CountVersions();
  bool narrow() const { return flat_grads_.scalar_type() == at::kBFloat16; }

  std::vector<Parameter> parameters_;
  const Options options_;
  const std::shared_ptr<const kernels::Operations> operations_;
  at::Tensor flat_grads_;
  std::vector<at::Tensor> weights_, grads_, exp_avgs_, exp_avg_sqs_;
  // Where each parameter begins in flat_grads_: what its random bits are counted from.
  std::vector<int64_t> begins_;
  std::vector<Group> groups_;
  // fp32 numbers on the device, which kernels read.
  at::Tensor step_, sum_of_squares_;
  int64_t steps_ = 0;
};

}  // namespace studio
