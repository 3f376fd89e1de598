// For tests of the planned step: models of both precisions, and losses and gradients by both ways. Linked for CUDA they
// run there.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/planned/planned_step.h"

namespace studio::planned {

using Gradients = std::map<std::string, at::Tensor>;

struct Outcome {
  double loss_sum = 0;
  Gradients gradients;
};

bool OnCuda();
// Products of another library, whose sums run in another order.
double Fp32Limit();

// Our kernels on CUDA.
std::shared_ptr<const kernels::Operations> MakeOperations();

// Adapters of rank 4.
ModelOptions WithLora(at::ScalarType type = at::kFloat);
// Every weight trained, kept in the type of the computation.
ModelOptions Full(at::ScalarType type = at::kFloat);

// B starts at zero and norms and biases at constants, which hides half of the gradients.
void FillAll(CausalLm& model);

// The gradients there are, which are taken away.
Outcome Collect(CausalLm& model, double loss_sum);
Outcome Reference(CausalLm& model, const std::vector<Batch>& batches, double scale = 0.25);
Outcome Planned(CausalLm& model, const std::vector<Batch>& batches, double scale = 0.25, int64_t loss_rows = 16);

// Norm of the difference over the norm.
double Relative(const at::Tensor& a, const at::Tensor& b);
void ExpectClose(const Outcome& a, const Outcome& b, double limit);
// What bf16 costs by the plan is at most 1.5 times what it costs by autograd; truth is in fp32.
void ExpectNoWorse(const Outcome& planned, const Outcome& autograd, const Outcome& truth);

// Packed rows with labels here and there, and one of a single token.
std::vector<Batch> Ragged();

}  // namespace studio::planned
