#include "worker/trainer/generate/generate.h"

#include <ATen/ops/tensor.h>

#include <map>

#include "common/status/testing.h"
#include "worker/trainer/model/counter_random.h"
#include "worker/trainer/model/tiny_model.h"

namespace studio {
namespace {

at::Tensor Logits() { return at::tensor({0.0f, 2.0f, 1.0f, -1.0f}); }

TEST(ChooseToken, GreedyTakesTheLikeliestAndPenalisesRepeats) {
  GenerateOptions options;
  EXPECT_EQ(ChooseToken(Logits(), {1}, options, 0), 1);
  options.repetition_penalty = 4;  // 2 / 4 < 1
  EXPECT_EQ(ChooseToken(Logits(), {1, 1}, options, 0), 2);
  EXPECT_EQ(ChooseToken(at::tensor({-1.0f, -2.0f}), {0}, options, 0), 1) << "below zero, a penalty multiplies";
}

TEST(ChooseToken, DrawsInProportionWithinTopKAndTopP) {
  const auto shares = [](const GenerateOptions& options) {
    std::map<int64_t, double> share;
    for (uint64_t i = 0; i < 20000; ++i) share[ChooseToken(Logits(), {}, options, Uniform(7, i))] += 1 / 20000.0;
    return share;
  };
  GenerateOptions options;
  options.do_sample = true;
  std::map<int64_t, double> share = shares(options);
  EXPECT_NEAR(share[1], 0.6439, 0.02);  // e² / (1 + e² + e + 1/e)
  EXPECT_NEAR(share[3], 0.0321, 0.01);
  options.top_k = 2;
  share = shares(options);
  EXPECT_EQ(share.size(), 2u);
  EXPECT_NEAR(share[1], 0.7311, 0.02);
  options.top_k = 0;
  options.top_p = 0.6;
  EXPECT_EQ(shares(options).size(), 1u) << "the first token that passes the share is the last";
  options.top_p = 1;
  options.temperature = 0.1;
  EXPECT_GT(shares(options)[1], 0.99);
}

TEST(Generate, CachedAnswerIsTheUncachedOne) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("generate", {}));
  const std::vector<int64_t> prompt = {5, 9, 2, 14, 7};
  GenerateOptions options;
  options.max_new_tokens = 12;
  options.stop_tokens = {-1};
  const std::vector<int64_t> answer = Generate(*model, prompt, options);
  ASSERT_EQ(answer.size(), 12u);
  std::vector<int64_t> all = prompt;
  for (const int64_t token : answer) {
    const at::Tensor logits = model->Logits(Segments({all}));
    EXPECT_EQ(logits[static_cast<int64_t>(all.size()) - 1].argmax().item<int64_t>(), token);
    all.push_back(token);
  }
}

TEST(Generate, StopsAtTheStopTokenAndRepeatsItselfBySeed) {
  ASSERT_OK_AND_ASSIGN(const auto model, LoadTiny("generate_stop", {}));
  GenerateOptions options;
  options.max_new_tokens = 8;
  options.stop_tokens = {-1};
  const std::vector<int64_t> prompt = {3, 1, 4};
  const std::vector<int64_t> greedy = Generate(*model, prompt, options);
  options.stop_tokens = {greedy[0]};
  EXPECT_TRUE(Generate(*model, prompt, options).empty());

  options.stop_tokens = {-1};
  options.do_sample = true;
  const std::vector<int64_t> sampled = Generate(*model, prompt, options);
  EXPECT_EQ(Generate(*model, prompt, options), sampled);
  options.stream = 1;
  EXPECT_NE(Generate(*model, prompt, options), sampled);
  EXPECT_TRUE(Generate(*model, {}, options).empty());
}

}  // namespace
}  // namespace studio
