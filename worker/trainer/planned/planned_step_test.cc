// The planned step against the autograd path. Linked for CUDA (planned_step_cuda_test) the same cases run there, with
// cuDNN's and FlashAttention's attention and with our own kernels.
#include "worker/trainer/planned/planned_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status/testing.h"
#include "worker/trainer/model/tiny_model.h"
#include "worker/trainer/planned/applies.h"
#include "worker/trainer/planned/planned_testing.h"

namespace studio::planned {
namespace {

struct Case {
  std::string name;
  std::string config;  // more keys of config.json
  std::vector<std::string> targets = {};
  int64_t r = 4;
  double dropout = 0;
};

ModelOptions OptionsOf(const Case& c) {
  ModelOptions options = WithLora();
  options.lora->target_modules = c.targets;
  options.lora->r = c.r;
  options.lora->dropout = c.dropout;
  return options;
}

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

const Case kCases[] = {
    {"plain", ""},
    {"tied", R"("tie_word_embeddings": true)"},
    {"soft_cap", R"("final_logit_softcapping": 3.0)"},
    {"soft_cap_tied", R"("final_logit_softcapping": 3.0, "tie_word_embeddings": true)"},
    {"qwen2_biases", R"("model_type": "qwen2")"},
    {"every_bias", R"("attention_bias": true, "mlp_bias": true)"},
    {"one_head_for_all", R"("num_key_value_heads": 1)"},
    {"no_grouping", R"("num_key_value_heads": 4)"},
    {"head_24", R"("head_dim": 24)"},
    {"head_40", R"("head_dim": 40, "num_hidden_layers": 1)"},
    {"head_80", R"("head_dim": 80)"},
    {"head_2", R"("head_dim": 2)"},
    {"rope_linear", R"("rope_scaling": {"rope_type": "linear", "factor": 2.0})"},
    {"rope_dynamic", R"("rope_scaling": {"rope_type": "dynamic", "factor": 2.0}, "max_position_embeddings": 16)"},
    {"rope_llama3", R"("rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                       "high_freq_factor": 4.0, "original_max_position_embeddings": 16})"},
    {"rope_yarn", R"("rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16})"},
    {"three_layers", R"("num_hidden_layers": 3)"},
    {"queries_and_values", "", {"q_proj", "v_proj"}},
    {"keys", "", {"k_proj"}},
    {"output", "", {"o_proj"}},
    {"up_alone", "", {"up_proj"}},
    {"down_alone", "", {"down_proj"}},
    {"gate_and_output", "", {"gate_proj", "o_proj"}},
    {"last_layer_alone", "", {"model.layers.1.self_attn.o_proj", "model.layers.1.mlp.up_proj"}},
    {"rank_3", "", {}, 3},
    {"rank_20", "", {}, 20},
    {"first_layers_middle", "", {"model.layers.0.mlp.gate_proj", "model.layers.1.mlp.down_proj"}},
    {"dropout", R"("num_hidden_layers": 3)", {}, 4, 0.1},
    {"dropout_rank_16", R"("hidden_size": 64, "intermediate_size": 64)", {}, 16, 0.1},
    {"dropout_rank_3", "", {}, 3, 0.1},
    {"dropout_rank_20", R"("hidden_size": 64, "intermediate_size": 128)", {}, 20, 0.1},
    {"dropout_queries_and_values", "", {"q_proj", "v_proj"}, 4, 0.1},
    {"dropout_output_and_down", "", {"o_proj", "down_proj"}, 4, 0.1},
    {"dropout_last_layer_alone", "", {"model.layers.1.self_attn.o_proj", "model.layers.1.mlp.up_proj"}, 4, 0.1},
};

class PlannedStepCases : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(All, PlannedStepCases, testing::ValuesIn(kCases),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(PlannedStepCases, HasTheReferencesLossAndGradients) {
  ModelOptions options = OptionsOf(GetParam());
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("case_" + GetParam().name, options, GetParam().config));
  FillAll(*model);
  ExpectClose(Planned(*model, Ragged()), Reference(*model, Ragged()), Fp32Limit());
}

TEST_P(PlannedStepCases, LosesNoMoreInBfloat16ThanTheReferenceDoes) {
  ModelOptions options = OptionsOf(GetParam());
  ASSERT_OK_AND_ASSIGN(const auto exact, LoadTiny("exact_" + GetParam().name, options, GetParam().config));
  options.compute_dtype = options.base_dtype = at::kBFloat16;
  ASSERT_OK_AND_ASSIGN(const auto half, LoadTiny("half_" + GetParam().name, options, GetParam().config));
  FillAll(*exact);
  FillAll(*half);
  ExpectNoWorse(Planned(*half, Ragged()), Reference(*half, Ragged()), Reference(*exact, Ragged()));
}

TEST(PlannedStep, ChunksOfTheLossAndLargerPlansChangeNothing) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("chunks", WithLora()));
  FillAll(*model);
  const std::vector<Batch> batches = {Segments({RandomTokens(40, 1)})};
  const Outcome whole = Planned(*model, batches);
  ExpectClose(Planned(*model, batches, 0.25, /*loss_rows=*/3), whole, 1e-6);
  PlannedStep roomy(*model, 500, MakeOperations());
  const double loss = roomy.AccumulateGradients(batches[0], 0.25).item<double>();
  ExpectClose(Collect(*model, loss), whole, 1e-6);
}

TEST(PlannedStep, EveryTokenLabelledNeedsNoChoiceOfRows) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("full", WithLora()));
  FillAll(*model);
  Batch batch = Segments({RandomTokens(9, 1), RandomTokens(9, 2)});
  batch.labels.copy_(batch.tokens);
  ExpectClose(Planned(*model, {batch}), Reference(*model, {batch}), Fp32Limit());
}

// On CUDA this is what cuDNN's attention is for.
TEST(PlannedStep, SequencesOfOneLengthInBfloat16) {
  for (const char* head_dim : {"16", "64", "128"}) {
    const std::string config = absl::StrCat("\"head_dim\": ", head_dim);
    ASSERT_OK_AND_ASSIGN(const auto exact, LoadTiny(absl::StrCat("even", head_dim), WithLora(), config));
    ASSERT_OK_AND_ASSIGN(const auto half,
                         LoadTiny(absl::StrCat("evenhalf", head_dim), WithLora(at::kBFloat16), config));
    FillAll(*exact);
    FillAll(*half);
    const Batch batch = Segments({RandomTokens(64, 1), RandomTokens(64, 2), RandomTokens(64, 3)});
    ExpectClose(Planned(*half, {batch}), Reference(*exact, {batch}), 0.06);
  }
}

TEST(PlannedStep, BatchWithoutLabelsAddsNothing) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("nolabels", WithLora()));
  FillAll(*model);
  Batch empty = Segments({RandomTokens(6, 1)});
  empty.labels.fill_(-100);
  const Batch batch = Segments({RandomTokens(9, 1)});
  ExpectClose(Planned(*model, {batch, empty}), Planned(*model, {batch}), 1e-7);
}

TEST(PlannedStep, SeesChangedAdaptersAndRepeatsItsBits) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("again", WithLora(at::kBFloat16)));
  FillAll(*model);
  const Batch batch = Segments({RandomTokens(30, 1)});
  PlannedStep step(*model, 64, MakeOperations());
  const Outcome first = Collect(*model, step.AccumulateGradients(batch, 1).item<double>());
  const Outcome second = Collect(*model, step.AccumulateGradients(batch, 1).item<double>());
  EXPECT_EQ(first.loss_sum, second.loss_sum);
  for (const auto& [name, gradient] : first.gradients) {
    // FlashAttention's backward pass on CUDA adds by atomics.
    EXPECT_TRUE(OnCuda() || gradient.equal(second.gradients.at(name))) << name;
    EXPECT_LT(Relative(gradient, second.gradients.at(name)), 0.01) << name;
  }
  {
    at::NoGradGuard no_grad;
    for (NamedParameter& p : model->TrainableParameters()) p.tensor.mul_(1.5);
  }
  const Outcome third = Collect(*model, step.AccumulateGradients(batch, 1).item<double>());
  EXPECT_NE(first.loss_sum, third.loss_sum);
  EXPECT_NEAR(third.loss_sum / Reference(*model, {batch}, 1).loss_sum, 1, 0.01);
}

TEST(PlannedStep, BorderedWeightsAreTheSameModel) {
  ModelOptions options = WithLora();
  ASSERT_OK_AND_ASSIGN(const auto bordered, LoadTiny("bordered", options));
  options.bordered = false;
  ASSERT_OK_AND_ASSIGN(const auto plain, LoadTiny("unbordered", options));
  FillAll(*bordered);
  FillAll(*plain);
  ExpectClose(Reference(*bordered, Ragged()), Reference(*plain, Ragged()), 1e-6);
  const auto ours = bordered->Weights(at::kFloat, /*merged=*/true);
  const auto theirs = plain->Weights(at::kFloat, /*merged=*/true);
  ASSERT_EQ(ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size(); ++i) EXPECT_TRUE(ours[i].value().equal(theirs[i].value())) << ours[i].name;
  const Batch batch = Ragged()[0];
  EXPECT_EQ(bordered->Evaluate(batch).loss_sum, plain->Evaluate(batch).loss_sum);
}

TEST(PlannedStep, DropsAnewInEachStepAndRepeatsAStepsMasks) {
  ModelOptions options = WithLora();
  options.lora->dropout = 0.3;
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("steps", options));
  FillAll(*model);
  Batch batch = Segments({RandomTokens(30, 1)});
  PlannedStep step(*model, 30, MakeOperations());
  std::vector<double> losses;
  // The shape comes again, so the later ones are replays of a recording.
  for (const int64_t at : {1, 2, 3, 4, 2}) {
    batch.step = at;
    const Outcome planned = Collect(*model, step.AccumulateGradients(batch, 0.25).item<double>());
    ExpectClose(planned, Reference(*model, {batch}), Fp32Limit());
    losses.push_back(planned.loss_sum);
  }
  EXPECT_GT(std::abs(losses[0] - losses[1]), 1e-3);
  EXPECT_NEAR(losses[1], losses[4], 1e-4);
}

TEST(WhyNot, NamesWhatStandsAgainstIt) {
  ModelOptions options = WithLora();
  EXPECT_EQ(WhyNot(options), "");
  options.neftune_alpha = 5;
  EXPECT_EQ(WhyNot(options), "neftune_noise_alpha 5");
  options = WithLora();
  options.base_dtype = at::kBFloat16;
  EXPECT_EQ(WhyNot(options), "backbone_dtype differs from mixed_precision_dtype");
  options = Full(at::kBFloat16);
  EXPECT_EQ(WhyNot(options), "");
  options.trained_dtype = at::kFloat;
  EXPECT_EQ(WhyNot(options), "every weight is trained and kept in another type than mixed_precision_dtype");
}

}  // namespace
}  // namespace studio::planned
