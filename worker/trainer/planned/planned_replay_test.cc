// Recorded steps against steps that are not: the same bits, with other data each time. Part of planned_step_test; on a
// CPU recordings are direct calls of the same interface.
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "common/status/testing.h"
#include "worker/trainer/model/tiny_model.h"
#include "worker/trainer/optim/make_adamw.h"
#include "worker/trainer/planned/planned_testing.h"

namespace studio::planned {
namespace {

struct Run {
  std::vector<double> losses;
  std::vector<at::Tensor> weights;
  int64_t replays = 0;
};

// Ten steps over batches that change: tokens, which of them have labels, and (every third) where segments end.
Run Train(const ModelOptions& options, bool record) {
  auto model = LoadTiny(options.lora ? "replay_lora" : "replay_full", options);
  EXPECT_OK(model.status());
  FillAll(**model);
  std::vector<Optimizer::Parameter> parameters;
  for (const NamedParameter& p : (*model)->TrainableParameters()) parameters.push_back({p.name, p.tensor, p.decay});
  const std::unique_ptr<Optimizer> optimizer = MakeAdamW(parameters, {.weight_decay = 0.1}, MakeOperations());
  PlannedStep step(**model, 60, MakeOperations(), {.loss_rows = 16, .record = record});
  Run run;
  for (uint64_t i = 0; i < 10; ++i) {
    optimizer->ZeroGrads();
    double loss = 0;
    for (uint64_t micro = 0; micro < 2; ++micro) {
      const int64_t first = i % 3 == 2 ? 20 : 30;
      Batch batch = Segments({RandomTokens(first, 10 * i + micro), RandomTokens(60 - first, 10 * i + micro + 5)});
      batch.labels.narrow(0, static_cast<int64_t>(i), 4).fill_(-100);
      loss += step.AccumulateGradients(batch, 0.01 + 0.001 * static_cast<double>(i)).item<double>();
    }
    run.losses.push_back(loss);
    optimizer->ClipAndStep(1e-3 * static_cast<double>(1 + i), 1.0);
    step.Refresh();
  }
  run.replays = step.replays().replays();
  run.weights = optimizer->weights();
  return run;
}

void ExpectSameBits(const ModelOptions& options) {
  const Run recorded = Train(options, true), direct = Train(options, false);
  EXPECT_EQ(direct.replays, 0);
  EXPECT_GT(recorded.replays, 10);
  ASSERT_EQ(recorded.losses.size(), 10);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(recorded.losses[i], direct.losses[i]) << "step " << i;
  for (size_t i = 0; i < direct.weights.size(); ++i) EXPECT_TRUE(recorded.weights[i].equal(direct.weights[i])) << i;
  EXPECT_NE(recorded.losses.front(), recorded.losses.back());
}

TEST(PlannedReplay, OfAdaptersHasTheBitsOfDirectSteps) {
  ExpectSameBits(WithLora(OnCuda() ? at::kBFloat16 : at::kFloat));
}
TEST(PlannedReplay, OfEveryWeightHasTheBitsOfDirectSteps) {
  ExpectSameBits(Full(OnCuda() ? at::kBFloat16 : at::kFloat));
}
TEST(PlannedReplay, InBfloat16HasTheBitsOfDirectSteps) {
  ExpectSameBits(WithLora(at::kBFloat16));
  ExpectSameBits(Full(at::kBFloat16));
}

TEST(PlannedReplay, FollowsGradientsThatMove) {
  const at::ScalarType type = OnCuda() ? at::kBFloat16 : at::kFloat;
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("replay_moved", WithLora(type)));
  FillAll(*model);
  PlannedStep step(*model, 64, MakeOperations(), {.loss_rows = 16});
  const Batch batch = Segments({RandomTokens(40, 1)});
  Outcome first;
  for (int i = 0; i < 8; ++i) {
    // Collect takes the gradients away; the two steps behind it have new ones.
    const double once = step.AccumulateGradients(batch, 0.25).item<double>();
    const double twice = step.AccumulateGradients(batch, 0.25).item<double>();
    const Outcome outcome = Collect(*model, once + twice);
    if (i == 0) first = outcome;
    ExpectClose(outcome, first, OnCuda() ? 0.01 : 1e-6);
  }
}

}  // namespace
}  // namespace studio::planned
