// The example's model and data. Not part of `bazel test //...`, which needs no downloads:
//
//   bazel test //worker/data:real_data_test --test_env=STUDIO_TEST_MODEL=<SmolLM2-135M-Instruct's folder>
//     --test_env=STUDIO_TEST_FAQ=<folder of faq-en-alpaca.jsonl and faq-en-sharegpt.jsonl>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "common/job/job_rules.h"
#include "common/status/testing.h"
#include "worker/data/prepare.h"
#include "worker/data/testing_model.h"
#include "worker/data/tokenizer.h"

namespace studio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class RealDataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("STUDIO_TEST_MODEL");
    const char* faq = std::getenv("STUDIO_TEST_FAQ");
    if (model == nullptr || faq == nullptr) GTEST_SKIP() << "set STUDIO_TEST_MODEL and STUDIO_TEST_FAQ to run this";
    model_ = model;
    faq_ = faq;
  }
  absl::StatusOr<PreparedData> Run(const std::string& file) {
    v1::Job job;
    job.set_name("faq");
    job.mutable_dataset()->set_train_dataframe(faq_ + "/" + file);
    job.mutable_architecture()->set_llm_backbone(model_);
    return Prepare(WithDefaults(job), data_dir_);
  }

  std::string model_, faq_;
  const std::string data_dir_ = NewFolder("data");
};

TEST_F(RealDataTest, PreparesTheFaqAlikeFromBothItsForms) {
  ASSERT_OK_AND_ASSIGN(PreparedData alpaca, Run("faq-en-alpaca.jsonl"));
  ASSERT_OK_AND_ASSIGN(PreparedData sharegpt, Run("faq-en-sharegpt.jsonl"));
  EXPECT_EQ(alpaca.report.rows(), 503);
  EXPECT_EQ(alpaca.report.train_examples(), 478);
  EXPECT_EQ(alpaca.report.validation_examples(), 25);
  EXPECT_EQ(alpaca.report.tokens(), 51037);
  EXPECT_EQ(alpaca.report.valid_tokens(), 31048);
  EXPECT_EQ(alpaca.report.DebugString(), sharegpt.report.DebugString());
  ASSERT_EQ(alpaca.train.size(), 1);
  for (int64_t i = 0; i < alpaca.train[0].rows(); ++i) {
    const TokenRow a = alpaca.train[0].row(i), s = sharegpt.train[0].row(i);
    EXPECT_TRUE(std::ranges::equal(a.tokens, s.tokens) && std::ranges::equal(a.learn, s.learn)) << "row " << i;
  }
}

TEST_F(RealDataTest, LearnsTheAnswerAndItsEnd) {
  ASSERT_OK_AND_ASSIGN(PreparedData data, Run("faq-en-alpaca.jsonl"));
  ASSERT_OK_AND_ASSIGN(Tokenizer tokenizer, Tokenizer::Load(model_));
  const TokenRow row = data.validation[0].row(0);
  const size_t end = row.starts.size() > 1 ? row.starts[1] : row.tokens.size();
  std::vector<uint32_t> prompt, answer;
  for (size_t i = 0; i < end; ++i) (row.learn[i] ? answer : prompt).push_back(row.tokens[i]);
  ASSERT_OK_AND_ASSIGN(std::string before, tokenizer.Decode(prompt, false));
  ASSERT_OK_AND_ASSIGN(std::string learnt, tokenizer.Decode(answer, false));
  EXPECT_THAT(before, StartsWith("<|im_start|>"));
  EXPECT_THAT(before, ::testing::EndsWith("<|im_start|>assistant\n"));
  EXPECT_THAT(learnt, ::testing::EndsWith("<|im_end|>\n"));
  EXPECT_THAT(learnt, ::testing::Not(HasSubstr("<|im_start|>")));
  EXPECT_THAT(data.stop_tokens, ElementsAre(2));
}

}  // namespace
}  // namespace studio
