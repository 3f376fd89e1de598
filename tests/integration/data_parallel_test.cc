// One job over several ranks of one worker, every program as it ships: the same training as one rank does alone, and
// what happens when a rank dies.
#include <signal.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/env/posix_env.h"
#include "common/status/macros.h"
#include "common/status/testing.h"
#include "tests/e2e/tiny_model.h"
#include "tests/integration/cluster.h"
#include "tests/integration/started_trainers.h"

namespace studio {
namespace {

using testing::HasSubstr;

constexpr int kRanks = 4;

// 38 rows train in global batches of 8: the last one of an epoch has 6, so that of four ranks one has none. With
// dropout, whose masks must not depend on who computes a row.
constexpr char kJob[] = R"(
name: "gang"
dataset { train_dataframe: "rows.jsonl" validation_size: 0.2 packing: false }
tokenizer { max_length: 96 }
architecture { llm_backbone: "model" pretrained: false }
training {
  learning_rate: 0.01 batch_size: 2 grad_accumulation: 4 lora_r: 4 lora_dropout: 0.1 max_steps: 20 eval_steps: 1
}
prediction { max_length_inference: 4 }
environment { mixed_precision_dtype: FLOAT32 number_of_workers: 1 }
)";

class DataParallelTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    ASSERT_OK(WriteTinyModel(folder_ + "/model"));
    ASSERT_OK(WriteRows(folder_ + "/rows.jsonl", 48));
    ASSERT_OK(WriteText(folder_ + "/job.pb.txt", kJob));
    // Where a test writes `limit` (KiB), rank 1 may have so much anonymous memory.
    const std::string limited = folder_ + "/limited.sh";
    ASSERT_OK(WriteText(
        limited, absl::StrCat("#!/bin/sh\nif [ \"$RANK\" = 1 ] && [ -f '", folder_,
                              "/limit' ]; then ulimit -d \"$(cat '", folder_, "/limit')\"; fi\nexec '",
                              std::filesystem::absolute("worker/trainer/studio-trainer").string(), "' \"$@\"\n")));
    std::filesystem::permissions(limited, std::filesystem::perms::owner_all);
    absl::StatusOr<StartedTrainers> trainers = StartedTrainers::Create(folder_, limited);
    ASSERT_OK(trainers);
    trainers_.emplace(*std::move(trainers));
    Cluster::Binaries binaries;
    binaries.trainer = trainers_->program();
    binaries.dataprep = "worker/data/studio-dataprep";
    cluster_ = std::make_unique<Cluster>(folder_, binaries);
    ASSERT_OK(cluster_->StartController());
    ASSERT_OK(cluster_->StartWorker({}, {"--cpu-ranks", absl::StrCat(kRanks)}));
  }
  void TearDown() override {
    cluster_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  // kJob over so many ranks; rows of a global batch stay 8.
  absl::StatusOr<std::string> Submit(int ranks, const std::vector<std::string>& sets) {
    std::vector<std::string> all = {absl::StrCat("resources.devices=", ranks),
                                    absl::StrCat("training.grad_accumulation=", std::max(1, 4 / ranks))};
    all.insert(all.end(), sets.begin(), sets.end());
    return cluster_->SubmitFile(folder_ + "/job.pb.txt", all);
  }
  absl::StatusOr<v1::JobRecord> Train(int ranks, const std::vector<std::string>& sets) {
    ASSIGN_OR_RETURN(const std::string id, Submit(ranks, sets));
    for (int rank = 0; rank < ranks; ++rank) RETURN_IF_ERROR(trainers_->Next().status());
    ASSIGN_OR_RETURN(v1::JobRecord record, cluster_->AwaitState(id, v1::SUCCEEDED));
    if (record.attempts_size() != 1) return absl::InternalError(record.ShortDebugString());
    return record;
  }

  // The losses of all evaluations, one a step, and of the last step's training.
  static void ExpectSameLosses(const v1::JobRecord& many, const v1::JobRecord& one, double tolerance) {
    ASSERT_EQ(many.evaluations_size(), one.evaluations_size());
    for (int i = 0; i < one.evaluations_size(); ++i) {
      EXPECT_EQ(many.evaluations(i).step(), one.evaluations(i).step());
      EXPECT_EQ(many.evaluations(i).valid_tokens(), one.evaluations(i).valid_tokens());
      EXPECT_NEAR(many.evaluations(i).loss() / one.evaluations(i).loss(), 1, tolerance) << "step " << i;
    }
    EXPECT_NEAR(many.progress().loss() / one.progress().loss(), 1, tolerance);
    EXPECT_EQ(many.progress().tokens_seen(), one.progress().tokens_seen());
    EXPECT_EQ(many.samples_size(), one.samples_size());
  }

  const std::string folder_ =
      absl::StrCat(testing::TempDir(), "/", testing::UnitTest::GetInstance()->current_test_info()->name());
  std::optional<StartedTrainers> trainers_;
  std::unique_ptr<Cluster> cluster_;
};

TEST_F(DataParallelTest, TwoAndFourRanksTrainAnAdapterAsOneDoes) {
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord one, Train(1, {}));
  ASSERT_EQ(one.evaluations_size(), 21);
  EXPECT_LT(one.evaluations(20).loss(), 0.95 * one.evaluations(0).loss()) << "nothing was learnt: nothing is compared";
  for (const int ranks : {2, kRanks}) {
    SCOPED_TRACE(absl::StrCat(ranks, " ranks"));
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord many, Train(ranks, {}));
    EXPECT_EQ(many.evaluations(0).loss(), one.evaluations(0).loss()) << "before training: the same bits";
    ExpectSameLosses(many, one, 1e-4);
    ASSERT_OK_AND_ASSIGN(const Cluster::Ctl logs, cluster_->RunCtl({"logs", many.id(), "--rank", "1"}));
    EXPECT_THAT(logs.output, HasSubstr("step 20/20")) << "every rank has a log of its own";
  }
}

TEST_F(DataParallelTest, TwoAndFourRanksTrainEveryWeightAsOneDoes) {
  const std::vector<std::string> full = {"training.lora=false", "training.learning_rate=0.003"};
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord one, Train(1, full));
  EXPECT_LT(one.evaluations(20).loss(), 0.95 * one.evaluations(0).loss());
  for (const int ranks : {2, kRanks}) {
    SCOPED_TRACE(absl::StrCat(ranks, " ranks"));
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord many, Train(ranks, full));
    ExpectSameLosses(many, one, 1e-4);
  }
}

TEST_F(DataParallelTest, ADeadRankTakesTheOthersAlongAndTheJobEndsAsIfNothingHadBeen) {
  const std::vector<std::string> longer = {"training.max_steps=240", "training.eval_steps=20", "training.save_steps=2"};
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord reference, Train(2, longer));

  ASSERT_OK_AND_ASSIGN(const std::string id, Submit(2, longer));
  ASSERT_OK_AND_ASSIGN(const StartedTrainer first, trainers_->Next());
  ASSERT_OK_AND_ASSIGN(const StartedTrainer second, trainers_->Next());
  ASSERT_OK(cluster_->Await(id, [](const v1::JobRecord& record) { return record.checkpoint().step() >= 6; }).status());
  const auto killed = std::chrono::steady_clock::now();
  ASSERT_OK(second.Kill());
  ASSERT_OK(first.AwaitEnd());
  EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(5));

  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::SUCCEEDED));
  ASSERT_EQ(record.attempts_size(), 2) << record.ShortDebugString();
  EXPECT_EQ(record.attempts(0).reason(), v1::CRASH);
  EXPECT_EQ(record.attempts(0).signal(), SIGKILL) << record.attempts(0).message();
  EXPECT_THAT(record.attempts(0).message(), HasSubstr(absl::StrCat("rank ", record.attempts(0).failed_rank())));
  EXPECT_GE(record.attempts(1).start_step(), 6);
  ExpectSameLosses(record, reference, 0);
}

// Its peers see a closed connection, at about the same moment.
TEST_F(DataParallelTest, TheRankThatRanOutOfMemoryIsTheCauseAndTheNextAttemptTakesSmallerBatches) {
  ASSERT_OK(WriteRows(folder_ + "/many.jsonl", 24'000));
  ASSERT_OK(WriteText(folder_ + "/limit", absl::StrCat(660 << 10)));  // 1,024 rows take more, 512 rows less
  ASSERT_OK_AND_ASSIGN(
      const std::string id,
      Submit(2, {"dataset.train_dataframe=many.jsonl", "dataset.validation_size=0", "dataset.packing=true",
                 "tokenizer.max_length=256", "training.batch_size=1024", "training.grad_accumulation=1",
                 "training.lora_dropout=0", "training.max_steps=2", "prediction.samples=false"}));
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::SUCCEEDED));
  ASSERT_EQ(record.attempts_size(), 2) << record.ShortDebugString();
  EXPECT_EQ(record.attempts(0).failed_rank(), 1) << record.ShortDebugString();
  EXPECT_EQ(record.attempts(0).reason(), v1::HOST_OOM) << record.ShortDebugString();
  EXPECT_EQ(record.attempts(1).plan().micro(), 512);
  EXPECT_EQ(record.attempts(1).plan().global(), record.attempts(0).plan().global());
}

TEST_F(DataParallelTest, ACancelledGangStopsTogether) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Submit(2, {"training.max_steps=1000000", "training.eval_steps=1000000"}));
  ASSERT_OK_AND_ASSIGN(const StartedTrainer first, trainers_->Next());
  ASSERT_OK_AND_ASSIGN(const StartedTrainer second, trainers_->Next());
  ASSERT_OK(cluster_->Await(id, [](const v1::JobRecord& record) { return record.progress().step() >= 3; }).status());
  ASSERT_OK_AND_ASSIGN(const Cluster::Ctl ctl, cluster_->RunCtl({"cancel", id}));
  EXPECT_EQ(ctl.exit_code, 0) << ctl.output;
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::CANCELLED));
  EXPECT_EQ(record.attempts(0).message(), "") << "it was killed, or failed";
  ASSERT_OK(first.AwaitEnd());
  ASSERT_OK(second.AwaitEnd());
}

TEST_F(DataParallelTest, AJobForMoreRanksThanAnyWorkerHasWaitsAndSaysSo) {
  ASSERT_OK_AND_ASSIGN(const std::string id, Submit(kRanks + 1, {}));
  // Until the worker has connected, that is the reason.
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->Await(id, [](const v1::JobRecord& record) {
    return absl::StrContains(record.message(), absl::StrCat(kRanks + 1, " devices on one worker"));
  }));
  EXPECT_EQ(record.state(), v1::PENDING);
  EXPECT_FALSE(trainers_->More());
}

}  // namespace
}  // namespace studio
