// What every optimizer shares: the trained weights, one line of gradients that ranks sum in one go, the count of steps.
// Gradients and states are allocated when it is made: out of memory shows before step 1.
//
//   optimizer.ZeroGrads();
//   for (micro batch) loss.backward();  // adds to optimizer.grads() in place
//   const at::Tensor norm = optimizer.ClipAndStep(learning_rate, 1.0);
//
// Not thread-safe. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace studio {

class Optimizer {
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
  using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

  virtual ~Optimizer() = default;

  void ZeroGrads();
  // One step with the gradients there are.
  void Step(double learning_rate);
  // The same with gradients whose global L2 norm is at most `max_norm` (0: no clipping). Returns the norm before, a
  // fp32 scalar on the device that is not waited for. One that is not finite may spoil the weights: the caller ends
  // the run when it reads it. Gradients are spent.
  at::Tensor ClipAndStep(double learning_rate, double max_norm);

  // One per parameter, in the parameters' order. Weights without their place in a graph: the same memory.
  const std::vector<at::Tensor>& weights() const { return weights_; }
  const std::vector<at::Tensor>& grads() const { return grads_; }
  // All gradients as one line of numbers (with zeros between some), of which each grad is a part: ranks sum it in
  // one go.
  const at::Tensor& flat_grads() const { return flat_grads_; }

  // What a resumed run needs beside steps(), by name: "<parameter>", "<parameter>#<state>" (docs/checkpoint_format.md).
  // These are the live tensors: a restart copies into them and sets the count of steps.
  virtual NamedTensors State() const = 0;
  // Steps done, for the bias correction.
  int64_t steps() const { return steps_; }
  void set_steps(int64_t steps) { steps_ = steps; }

 protected:
  Optimizer(const std::vector<Parameter>& parameters, Options options);
  const Options& options() const { return options_; }

 private:
  // Of all gradients, before they are clipped in place, or by what Update does next.
  virtual at::Tensor Clip(double max_norm);
  // Step steps(), counted from 1.
  virtual void Update(double learning_rate) = 0;

  const Options options_;
  at::Tensor flat_grads_;
  std::vector<at::Tensor> weights_, grads_;
  int64_t steps_ = 0;
};

}  // namespace studio
