// Attention chosen by figures: made-up ones say which kind a step takes, and on CUDA (planned_step_cuda_test) either
// kind has the reference's gradients, and real ones are taken.
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/env/memory_env.h"
#include "common/status/testing.h"
#include "worker/trainer/model/tiny_model.h"
#include "worker/trainer/planned/attention_table.h"
#include "worker/trainer/planned/measured_attention.h"
#include "worker/trainer/planned/planned_testing.h"
#include "worker/trainer/planned/time_attention.h"

namespace studio::planned {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A machine whose figures are made up, and what it is asked.
struct Made {
  MemoryEnv env;
  std::vector<AttentionKind> timed;
  std::vector<std::string> lines;

  AttentionTable Table() { return {env, "/cache/kernels"}; }
  std::shared_ptr<MeasuredAttention> With(MeasuredAttention::Time time) {
    return std::make_shared<MeasuredAttention>(
        MeasuredAttention::Card{"a card", "9.0"},
        AttentionChooser(Table(), [this](const std::string& line) { lines.push_back(line); }), std::move(time));
  }
  std::shared_ptr<MeasuredAttention> WhereFastestIs(AttentionKind fastest) {
    return With([this, fastest](AttentionKind kind, const kernels::Operations&, const PassPtr&, at::ScalarType) {
      timed.push_back(kind);
      return kind == fastest ? 10.5 : 20.25;
    });
  }
};

// As FlashAttention's on a card; the choice looks at no more than this.
PassPtr FlashPass(const std::vector<int32_t>& cu_seqlens, int64_t longest, int64_t head_dim = 64) {
  auto pass = std::make_shared<Pass>();
  pass->attention = Attention::kFlash;
  pass->cu_seqlens = cu_seqlens;
  pass->longest = longest;
  pass->heads = 4;
  pass->kv_heads = 2;
  pass->head_dim = head_dim;
  pass->cosine = pass->sine = at::zeros({cu_seqlens.back(), head_dim / 2});
  return pass;
}

TEST(MeasuredAttention, TakesTheFastestForRowsOfOneLength) {
  const auto ops = MakeOperations();
  for (const AttentionKind fastest : {AttentionKind::kCudnn, AttentionKind::kFlash}) {
    Made made;
    const auto measured = made.WhereFastestIs(fastest);
    EXPECT_EQ(measured->Choose(FlashPass({0, 32, 64}, 32), at::kBFloat16, *ops), fastest);
    EXPECT_EQ(measured->Choose(FlashPass({0, 32, 64}, 32), at::kBFloat16, *ops), fastest);
    EXPECT_THAT(made.timed, ElementsAre(AttentionKind::kCudnn, AttentionKind::kFlash));
  }
}

TEST(MeasuredAttention, KeepsTheFiguresOfAllThatTheyDependOn) {
  Made made;
  made.WhereFastestIs(AttentionKind::kFlash)->Choose(FlashPass({0, 32, 64}, 32), at::kBFloat16, *MakeOperations());
  ASSERT_OK_AND_ASSIGN(const AttentionFigures figures, made.Table().Find({.device = "a card",
                                                                          .compute_capability = "9.0",
                                                                          .libtorch = STUDIO_LIBTORCH_VERSION,
                                                                          .dtype = "BFloat16",
                                                                          .heads = 4,
                                                                          .kv_heads = 2,
                                                                          .head_dim = 64,
                                                                          .longest = 32,
                                                                          .tokens = 64,
                                                                          .one_length = true}));
  EXPECT_EQ(figures, (AttentionFigures{{AttentionKind::kCudnn, 20.25}, {AttentionKind::kFlash, 10.5}}));
}

TEST(MeasuredAttention, MeasuresNothingWhereThereIsNoChoice) {
  Made made;
  const auto ops = MakeOperations();
  const auto measured = made.WhereFastestIs(AttentionKind::kCudnn);
  EXPECT_EQ(measured->Choose(FlashPass({0, 40, 64}, 40), at::kBFloat16, *ops), AttentionKind::kFlash) << "packed";
  EXPECT_EQ(measured->Choose(FlashPass({0, 32, 64}, 32, 256), at::kBFloat16, *ops), AttentionKind::kFlash);
  auto plain = std::make_shared<Pass>(*FlashPass({0, 32, 64}, 32));
  plain->attention = Attention::kSdpa;
  EXPECT_EQ(measured->Choose(plain, at::kFloat, *ops), AttentionKind::kReference);
  EXPECT_THAT(made.timed, IsEmpty());
}

TEST(MeasuredAttention, AnExceptionOfTheMeasurementEndsThere) {
  Made made;
  const auto measured =
      made.With([](AttentionKind kind, const kernels::Operations&, const PassPtr&, at::ScalarType) -> double {
        if (kind == AttentionKind::kCudnn) throw std::runtime_error("no plan for this shape");
        return 10.5;
      });
  EXPECT_EQ(measured->Choose(FlashPass({0, 32, 64}, 32), at::kBFloat16, *MakeOperations()), AttentionKind::kFlash);
  EXPECT_THAT(made.lines, ElementsAre(HasSubstr("cudnn could not be measured: no plan"), HasSubstr(": flash;")));
}

// On CUDA each kind's kernels; elsewhere the reference's attention, which no figure replaces.
TEST(MeasuredAttention, EitherKindHasTheReferencesGradients) {
  for (const char* head_dim : {"16", "64", "128"}) {
    const std::string config = absl::StrCat("\"head_dim\": ", head_dim);
    ASSERT_OK_AND_ASSIGN(const auto exact, LoadTiny(absl::StrCat("kinds", head_dim), WithLora(), config));
    ASSERT_OK_AND_ASSIGN(const auto half,
                         LoadTiny(absl::StrCat("kindshalf", head_dim), WithLora(at::kBFloat16), config));
    FillAll(*exact);
    FillAll(*half);
    const Batch batch = Segments({RandomTokens(64, 1), RandomTokens(64, 2), RandomTokens(64, 3)});
    const Outcome truth = Reference(*exact, {batch});
    for (const AttentionKind kind : {AttentionKind::kCudnn, AttentionKind::kFlash}) {
      Made made;
      PlannedStep step(*half, 192, MakeOperations(),
                       {.loss_rows = 16, .measured_attention = made.WhereFastestIs(kind)});
      // Two directly, two replayed, and the gradients add up.
      double loss = 0;
      for (int i = 0; i < 4; ++i) loss += step.AccumulateGradients(batch, 0.25 / 4).item<double>();
      EXPECT_EQ(step.replays().replays(), 2);
      SCOPED_TRACE(absl::StrCat(NameOf(kind), ", head_dim ", head_dim));
      ExpectClose(Collect(*half, loss / 4), truth, 0.06);
      EXPECT_EQ(made.timed.size(), OnCuda() ? 2 : 0);
      EXPECT_EQ(made.lines.size(), OnCuda() ? 1 : 0);
      for (const std::string& line : made.lines) EXPECT_THAT(line, HasSubstr(absl::StrCat(": ", NameOf(kind), ";")));
    }
  }
}

TEST(MeasuredAttention, FewerTokensThanTheFullSizeAreNotMeasured) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("kinds_fewer", WithLora(at::kBFloat16)));
  FillAll(*model);
  Made made;
  PlannedStep step(*model, 192, MakeOperations(),
                   {.loss_rows = 16, .measured_attention = made.WhereFastestIs(AttentionKind::kCudnn)});
  const Batch batch = Segments({RandomTokens(64, 1), RandomTokens(64, 2)});
  ExpectClose(Collect(*model, step.AccumulateGradients(batch, 0.25).item<double>()), Reference(*model, {batch}), 0.06);
  EXPECT_THAT(made.timed, IsEmpty());
}

TEST(TimeAttention, TakesTimeAndLeavesTheStepAlone) {
  const at::ScalarType type = OnCuda() ? at::kBFloat16 : at::kFloat;
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("timed", WithLora(type)));
  FillAll(*model);
  const Batch batch = Segments({RandomTokens(64, 1), RandomTokens(64, 2), RandomTokens(64, 3)});
  const PassPtr pass = model->TrainingPass(batch);
  const auto ops = MakeOperations();
  const Outcome before = Planned(*model, {batch});
  for (const AttentionKind kind :
       OnCuda() ? std::vector{AttentionKind::kCudnn, AttentionKind::kFlash} : std::vector{AttentionKind::kReference}) {
    const double microseconds = TimeAttention(kind, *ops, pass, type);
    EXPECT_GT(microseconds, 0) << NameOf(kind);
    EXPECT_LT(microseconds, 1e6) << NameOf(kind);
  }
  ExpectClose(Planned(*model, {batch}), before, OnCuda() ? 0.01 : 1e-6);
}

// The whole way, with what this device takes.
TEST(MeasuredAttention, AStepMeasuresItsDevice) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("timed_step", WithLora(at::kBFloat16)));
  FillAll(*model);
  const Batch batch = Segments({RandomTokens(64, 1), RandomTokens(64, 2), RandomTokens(64, 3)});
  const Outcome reference = Reference(*model, {batch});
  Made made;
  for (int run = 0; run < 2; ++run) {
    PlannedStep step(*model, 192, MakeOperations(), {.loss_rows = 16, .measured_attention = made.With(TimeAttention)});
    ExpectClose(Collect(*model, step.AccumulateGradients(batch, 0.25).item<double>()), reference, 0.06);
  }
  if (OnCuda()) {
    EXPECT_THAT(made.lines, ElementsAre(HasSubstr("flash"), HasSubstr("(measured earlier)")));
  } else {
    EXPECT_THAT(made.lines, IsEmpty());
  }
}

}  // namespace
}  // namespace studio::planned
