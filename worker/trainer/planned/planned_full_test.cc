// The planned step where every weight is trained, against the autograd path. Part of planned_step_test.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "common/status/testing.h"
#include "worker/trainer/model/tiny_model.h"
#include "worker/trainer/optim/make_adamw.h"
#include "worker/trainer/planned/planned_testing.h"

namespace studio::planned {
namespace {

struct Case {
  std::string name;
  std::string config;  // more keys of config.json
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

const Case kCases[] = {
    {"plain", ""},
    {"tied", R"("tie_word_embeddings": true)"},
    {"qwen2_biases", R"("model_type": "qwen2")"},
    {"every_bias", R"("attention_bias": true, "mlp_bias": true)"},
    {"one_head_for_all", R"("num_key_value_heads": 1)"},
    {"no_grouping", R"("num_key_value_heads": 4)"},
    // No gradient begins where another ends.
    {"odd_sizes", R"("head_dim": 6, "hidden_size": 50, "intermediate_size": 33)"},
    {"one_layer_tied", R"("num_hidden_layers": 1, "tie_word_embeddings": true)"},
    {"three_layers", R"("num_hidden_layers": 3)"},
};

class PlannedFullCases : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, PlannedFullCases, testing::ValuesIn(kCases),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(PlannedFullCases, HasTheReferencesLossAndGradients) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("full_" + GetParam().name, Full(), GetParam().config));
  FillAll(*model);
  const Outcome planned = Planned(*model, Ragged());
  ExpectClose(planned, Reference(*model, Ragged()), Fp32Limit());
  for (const auto& [name, gradient] : planned.gradients) EXPECT_GT(gradient.norm().item<double>(), 0) << name;
}

TEST_P(PlannedFullCases, LosesNoMoreInBfloat16ThanTheReferenceDoes) {
  ASSERT_OK_AND_ASSIGN(const auto exact, LoadTiny("full_exact_" + GetParam().name, Full(), GetParam().config));
  ASSERT_OK_AND_ASSIGN(const auto half,
                       LoadTiny("full_half_" + GetParam().name, Full(at::kBFloat16), GetParam().config));
  FillAll(*half);
  {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < half->TrainableParameters().size(); ++i) {
      exact->TrainableParameters()[i].tensor.copy_(half->TrainableParameters()[i].tensor);
    }
  }
  const Outcome planned = Planned(*half, Ragged());
  for (const auto& [name, gradient] : planned.gradients) EXPECT_EQ(gradient.scalar_type(), at::kBFloat16) << name;
  ExpectNoWorse(planned, Reference(*half, Ragged()), Reference(*exact, Ragged()));
}

// As in training: gradients lie behind each other, so that q, k and v, gate and up are one product.
TEST_P(PlannedFullCases, TrainsInTheOptimizersBufferAsTheReferenceTrains) {
  std::vector<std::vector<double>> losses;
  for (const bool planned : {true, false}) {
    ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("full_train_" + GetParam().name, Full(), GetParam().config));
    FillAll(*model);
    std::vector<Optimizer::Parameter> parameters;
    for (const NamedParameter& p : model->TrainableParameters()) parameters.push_back({p.name, p.tensor, p.decay});
    const std::unique_ptr<Optimizer> optimizer = MakeAdamW(parameters, {.weight_decay = 0.1}, MakeOperations());
    PlannedStep step(*model, 64, MakeOperations());
    std::vector<double>& own = losses.emplace_back();
    for (int i = 0; i < 8; ++i) {
      double loss = 0;
      optimizer->ZeroGrads();
      for (const Batch& batch : Ragged()) {
        loss += planned ? step.AccumulateGradients(batch, 0.02).item<double>()
                        : model->AccumulateGradients(batch, 0.02).loss_sum;
      }
      own.push_back(loss);
      optimizer->ClipAndStep(0.01, 1.0);
    }
  }
  EXPECT_LT(losses[0].back(), 0.5 * losses[0].front());
  for (size_t i = 0; i < losses[0].size(); ++i)
    EXPECT_NEAR(losses[0][i] / losses[1][i], 1, OnCuda() ? 5e-3 : 2e-4) << "step " << i;
}

TEST(PlannedFull, TrainsInBfloat16AsInFp32ButForNoise) {
  std::vector<double> last;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("full_types", Full(type)));
    std::vector<Optimizer::Parameter> parameters;
    for (const NamedParameter& p : model->TrainableParameters()) parameters.push_back({p.name, p.tensor, p.decay});
    const std::unique_ptr<Optimizer> optimizer = MakeAdamW(parameters, {}, MakeOperations());
    PlannedStep step(*model, 64, MakeOperations());
    double first = 0, loss = 0;
    // Steps that a weight in bf16 could not take if it were rounded to the nearest.
    for (int i = 0; i < 100; ++i) {
      loss = 0;
      optimizer->ZeroGrads();
      for (const Batch& batch : Ragged()) loss += step.AccumulateGradients(batch, 0.02).item<double>();
      if (i == 0) first = loss;
      optimizer->ClipAndStep(5e-4, 1.0);
    }
    EXPECT_LT(loss, 0.9 * first);
    last.push_back(loss);
  }
  EXPECT_NEAR(last[1] / last[0], 1, 0.03);
}

}  // namespace
}  // namespace studio::planned
