// AdamW with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2), by
// LibTorch's fused kernel. Gradients and states are allocated when it is made: out of memory shows before step 1.
//
//   AdamW optimizer(parameters, {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01});
//   optimizer.ZeroGrads();
//   for (micro batch) loss.backward();  // adds to optimizer.grads() in place
//   ClipGradNorm(optimizer.grads(), 1.0);
//   optimizer.Step(learning_rate);
//
// The same numbers as torch.optim.AdamW(fused=True). Not thread-safe. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace studio {

class AdamW {
 public:
  struct Parameter {
    std::string name;
    // A fp32 leaf that requires a gradient; updated in place, and its grad() is set to memory of the optimizer's.
    at::Tensor tensor;
    // Weight decay applies (matrices; never norms or biases).
    bool decay = true;
  };
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double weight_decay = 0;
  };

  AdamW(std::vector<Parameter> parameters, Options options);

  void ZeroGrads();
  // One step with the gradients there are.
  void Step(double learning_rate);

  // One per parameter, in the parameters' order. Weights without their place in a graph: the same memory.
  const std::vector<at::Tensor>& weights() const { return weights_; }
  const std::vector<at::Tensor>& grads() const { return grads_; }
  // All gradients as one line of fp32 numbers (with zeros between some), of which each grad is a part: ranks sum it in
  // one go.
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

  std::vector<Parameter> parameters_;
  const Options options_;
  at::Tensor flat_grads_;
  std::vector<at::Tensor> weights_, grads_, exp_avgs_, exp_avg_sqs_;
  std::vector<Group> groups_;
  // A fp32 number on the device, which the kernel reads.
  at::Tensor step_;
  int64_t steps_ = 0;
};

}  // namespace studio
