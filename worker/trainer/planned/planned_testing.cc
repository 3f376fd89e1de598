#include "worker/trainer/planned/planned_testing.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/env/posix_env.h"
#include "worker/trainer/kernels/cubin_cache.h"
#include "worker/trainer/kernels/cuda_operations.h"
#include "worker/trainer/model/decoder_parts.h"
#include "worker/trainer/model/tiny_model.h"
#include "worker/trainer/model/weights.h"

namespace studio::planned {

bool OnCuda() { return at::hasCUDA(); }
double Fp32Limit() { return OnCuda() ? 1e-4 : 1e-5; }

std::shared_ptr<const kernels::Operations> MakeOperations() {
  static PosixEnv env;
  kernels::CubinCache cache(env, testing::TempDir() + "/kernels");
  kernels::Chosen chosen = kernels::ChooseOperations(OnCuda() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU), cache);
  EXPECT_EQ(chosen.note, "");
  return std::move(chosen.operations);
}

ModelOptions WithLora(at::ScalarType type) {
  ModelOptions options;
  if (OnCuda()) options.device = at::Device(at::kCUDA, 0);
  options.lora.emplace();
  options.lora->r = 4;
  options.lora->alpha = 12;
  options.compute_dtype = options.base_dtype = type;
  options.bordered = true;
  return options;
}

void FillAll(CausalLm& model) {
  at::NoGradGuard no_grad;
  for (const NamedTensor& t : model.Adapter()) {
    at::Tensor value = t.tensor;
    FillNormal(value, 0.1, 3, t.name);
  }
  DecoderParts parts = model.Parts();
  const auto vary = [](at::Tensor t, double middle, std::string_view name) {
    FillNormal(t, 0.1, 4, name);
    t.add_(middle);
  };
  vary(parts.final_norm, 1, "final");
  for (size_t i = 0; i < parts.layers.size(); ++i) {
    DecoderLayer& layer = parts.layers[i];
    const std::string name = std::to_string(i);
    vary(layer.input_norm, 1, name + "input");
    vary(layer.post_attention_norm, 1, name + "post");
    for (LinearGroup* group : layer.groups()) {
      for (LinearMember& member : group->members()) {
        if (member.bias.defined()) vary(member.bias, 0, member.name);
      }
    }
  }
}

ModelOptions Full(at::ScalarType type) {
  ModelOptions options = WithLora(type);
  options.lora.reset();
  options.bordered = false;
  options.trained_dtype = type;
  return options;
}

Outcome Collect(CausalLm& model, double loss_sum) {
  Outcome outcome{loss_sum, {}};
  for (NamedParameter& p : model.TrainableParameters()) {
    outcome.gradients[p.name] = p.tensor.grad().clone();
    p.tensor.mutable_grad() = at::Tensor();
  }
  return outcome;
}

Outcome Reference(CausalLm& model, const std::vector<Batch>& batches, double scale) {
  double loss = 0;
  for (const Batch& batch : batches) loss += model.AccumulateGradients(batch, scale).loss_sum;
  return Collect(model, loss);
}

Outcome Planned(CausalLm& model, const std::vector<Batch>& batches, double scale, int64_t loss_rows) {
  int64_t most = 0;
  for (const Batch& batch : batches) most = std::max(most, batch.tokens.size(0));
  PlannedStep step(model, most, MakeOperations(), {.loss_rows = loss_rows});
  double loss = 0;
  for (const Batch& batch : batches) loss += step.AccumulateGradients(batch, scale).item<double>();
  return Collect(model, loss);
}

double Relative(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kFloat) - b).norm().item().toDouble() / std::max(1e-30, b.to(at::kFloat).norm().item().toDouble());
}

void ExpectClose(const Outcome& a, const Outcome& b, double limit) {
  EXPECT_NEAR(a.loss_sum / b.loss_sum, 1, limit);
  ASSERT_EQ(a.gradients.size(), b.gradients.size());
  for (const auto& [name, gradient] : a.gradients) EXPECT_LT(Relative(gradient, b.gradients.at(name)), limit) << name;
}

void ExpectNoWorse(const Outcome& planned, const Outcome& autograd, const Outcome& truth) {
  EXPECT_NEAR(planned.loss_sum / truth.loss_sum, 1, 0.01);
  double squares = 0, reference_squares = 0;
  for (const auto& [name, gradient] : planned.gradients) {
    const double error = Relative(gradient, truth.gradients.at(name));
    EXPECT_LT(error, 0.1) << name;
    squares += error * error;
    reference_squares += std::pow(Relative(autograd.gradients.at(name), truth.gradients.at(name)), 2);
  }
  EXPECT_LT(std::sqrt(squares), 1.5 * std::sqrt(reference_squares));
}

std::vector<Batch> Ragged() {
  Batch first = Segments({RandomTokens(7, 1), RandomTokens(1, 2), RandomTokens(23, 3)});
  first.labels.narrow(0, 9, 8).fill_(-100);
  Batch second = Segments({RandomTokens(12, 4), RandomTokens(12, 5)});
  return {first, second};
}

}  // namespace studio::planned
