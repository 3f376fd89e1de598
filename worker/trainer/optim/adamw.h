// AdamW with decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", algorithm 2),
// fp32 master weights and fp32 states, all allocated when it is made: an out-of-memory error shows before step 1.
//
//   AdamW optimizer(model.trainable(), {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01});
//   optimizer.ZeroGrads();
//   for (micro batch) { loss.backward(); optimizer.CollectGrads(); }
//   ClipGradNorm(optimizer.grads(), 1.0);
//   optimizer.Step(learning_rate);
//
// Same numbers as torch.optim.AdamW(fused=True). Weight decay acts on matrices only, never on norms or biases.
// Gradients are summed in fp32 whatever the parameters' type. Not thread-safe. Throws what LibTorch throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace studio {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

class AdamW {
 public:
  struct Options {
    double beta1 = 0.9;
    double beta2 = 0.999;
    double epsilon = 1e-8;
    double weight_decay = 0;
  };

  // `parameters` are leaves that require a gradient; they are updated in place.
  AdamW(NamedTensors parameters, Options options);

  void ZeroGrads();
  // After each micro batch's backward pass: adds gradients of parameters that are not fp32 to their fp32 sums.
  void CollectGrads();
  // One step with the gradients collected.
  void Step(double learning_rate);

  // fp32, one per parameter, in the parameters' order.
  const std::vector<at::Tensor>& grads() const { return grads_; }
  // Everything that a resumed run needs, by name: "<parameter>" (fp32 master), "<parameter>#exp_avg",
  // "<parameter>#exp_avg_sq". They are the live tensors.
  NamedTensors State() const;
  // Steps done, for the bias correction.
  int64_t steps() const { return steps_; }
  // After the tensors of State() were overwritten: takes the step count and copies the masters to the parameters.
  void Restore(int64_t steps);

 private:
  struct Group {
    double weight_decay = 0;
    std::vector<at::Tensor> masters, grads, exp_avgs, exp_avg_sqs, steps;
  };

  void CopyMastersToParameters();

  NamedTensors parameters_;
  const Options options_;
  std::vector<at::Tensor> masters_, grads_, exp_avgs_, exp_avg_sqs_;
  // The same tensors by their weight decay.
  std::vector<Group> groups_;
  // What the fused kernel reads: one fp32 number on the device.
  at::Tensor step_;
  int64_t steps_ = 0;
};

}  // namespace studio
