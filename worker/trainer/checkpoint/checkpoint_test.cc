#include "worker/trainer/checkpoint/checkpoint.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <filesystem>
#include <fstream>
#include <mutex>

#include "common/env/posix_env.h"
#include "common/status/testing.h"
#include "worker/trainer/checkpoint/cadence.h"
#include "worker/trainer/checkpoint/checkpoint_folder.h"
#include "worker/trainer/checkpoint/checkpoint_writer.h"
#include "worker/trainer/checkpoint/identity.h"

namespace studio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class CheckpointTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    checkpoint_.state.set_step(12);
    checkpoint_.state.set_total_steps(100);
    checkpoint_.state.set_tokens_seen(345);
    checkpoint_.state.mutable_job()->mutable_training()->set_learning_rate(1e-4);
    checkpoint_.state.mutable_plan()->set_global(8);
    checkpoint_.state.set_data_key("abc");
    checkpoint_.tensors = {{"w", at::tensor({1.0f, 2.5f, -3.0f})}, {"w#exp_avg", at::tensor({0.1f})}};
  }

  void Write() { ASSERT_OK(WriteCheckpoint(env_, folder_, 0, checkpoint_)); }
  absl::StatusOr<v1::TrainingState> Read() { return ReadCheckpoint(env_, folder_, 0, checkpoint_.state, into_); }
  void ExpectNothingRead() {
    for (const auto& [name, tensor] : into_) EXPECT_TRUE(at::equal(tensor, at::zeros_like(tensor))) << name;
  }

  PosixEnv env_;
  std::string folder_;
  Checkpoint checkpoint_;
  TensorsByName into_ = {{"w", at::zeros({3})}, {"w#exp_avg", at::zeros({1})}};
};

TEST_F(CheckpointTest, GivesBackTheSameBits) {
  Write();
  ASSERT_OK_AND_ASSIGN(const v1::TrainingState state, Read());
  EXPECT_EQ(state.SerializeAsString(), checkpoint_.state.SerializeAsString());
  EXPECT_TRUE(at::equal(into_[0].second, checkpoint_.tensors[0].second));
  EXPECT_TRUE(at::equal(into_[1].second, checkpoint_.tensors[1].second));
}

TEST_F(CheckpointTest, KeepsBytesAsBytes) {
  const at::Tensor bytes = at::arange(256, at::kByte);
  ASSERT_OK_AND_ASSIGN(const TensorsByName copy, CopyToHost({{"w#exp_avg_8bit", bytes}}));
  checkpoint_.tensors.push_back(copy[0]);
  into_.emplace_back("w#exp_avg_8bit", at::zeros({256}, at::kByte));
  Write();
  ASSERT_OK(Read());
  EXPECT_TRUE(at::equal(into_[2].second, bytes));
  into_[2].second = at::zeros({256});
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("is U8 [256], wanted F32 [256]")));
}

TEST_F(CheckpointTest, ListsItsFilesInTheManifest) {
  Write();
  ASSERT_OK_AND_ASSIGN(const v1::CheckpointManifest manifest, ReadManifest(env_, folder_));
  ASSERT_EQ(manifest.shards_size(), 2);
  EXPECT_EQ(manifest.shards(0).file().path(), "rank-0.safetensors");
  EXPECT_EQ(manifest.shards(0).file().size_bytes(), std::filesystem::file_size(folder_ + "/rank-0.safetensors"));
  EXPECT_EQ(manifest.shards(1).file().path(), "state.pb.txt");
  EXPECT_EQ(manifest.plan().global(), 8);
  EXPECT_EQ(manifest.step(), 12);
}

TEST_F(CheckpointTest, RefusesAFlippedBit) {
  Write();
  std::fstream file(folder_ + "/rank-0.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x7f');
  file.close();
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("rank-0.safetensors")));
  ExpectNothingRead();
}

TEST_F(CheckpointTest, RefusesAWriteThatWasCutOff) {
  Write();
  std::filesystem::remove(folder_ + "/manifest.pb.txt");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("manifest.pb.txt")));
}

TEST_F(CheckpointTest, RefusesAMissingShard) {
  Write();
  std::filesystem::remove(folder_ + "/rank-0.safetensors");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("rank-0.safetensors")));
}

TEST_F(CheckpointTest, RefusesAManifestThatPointsOutOfItsFolder) {
  Write();
  ASSERT_OK(
      env_.WriteFile(folder_ + "/manifest.pb.txt", "format_version: 1 shards { file { path: \"../../etc/passwd\" } }"));
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("../../etc/passwd")));
  ASSERT_OK(env_.WriteFile(folder_ + "/manifest.pb.txt", "not a manifest"));
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("text form")));
  ASSERT_OK(env_.WriteFile(folder_ + "/manifest.pb.txt", "format_version: 9"));
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("version 9")));
}

TEST_F(CheckpointTest, NamesWhatDiffersInAnotherRunsCheckpoint) {
  Write();
  checkpoint_.state.mutable_job()->mutable_training()->set_learning_rate(2e-4);
  checkpoint_.state.set_data_key("def");
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kFailedPrecondition,
                               testing::AllOf(HasSubstr("training.learning_rate"), HasSubstr("abc -> def"))));
  ExpectNothingRead();
}

TEST_F(CheckpointTest, RefusesTensorsOfAnotherShape) {
  Write();
  into_[0].second = at::zeros({4});
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("tensor w is F32 [3], wanted F32 [4]")));
  into_ = {{"w", at::zeros({3})}};
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("2 tensors, wanted 1")));
  into_ = {{"v", at::zeros({3})}};
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("tensor v is missing")));
}

TEST_F(CheckpointTest, MayResumeWithAnotherCutOfTheSameBatch) {
  checkpoint_.state.mutable_plan()->set_micro(8);
  Write();
  checkpoint_.state.mutable_plan()->set_micro(1);
  checkpoint_.state.mutable_plan()->set_accumulation(8);
  EXPECT_OK(Read());
  checkpoint_.state.mutable_plan()->set_global(16);
  EXPECT_THAT(Read(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("8 -> 16 rows")));
}

TEST_F(CheckpointTest, WritesInTheBackgroundAndReportsEachOnce) {
  std::vector<int64_t> steps;
  {
    CheckpointWriter writer(env_, folder_, 0,
                            [&](const CheckpointWriter::Written& w) { steps.push_back(w.manifest.step()); });
    for (const int step : {4, 8}) {
      checkpoint_.state.set_step(step);
      ASSERT_OK(writer.Start(checkpoint_));
    }
    ASSERT_OK(writer.Wait());
  }
  EXPECT_THAT(steps, ElementsAre(4, 8));
  ASSERT_OK_AND_ASSIGN(const std::string newest, FindCheckpoint(env_, folder_));
  EXPECT_EQ(newest, folder_ + "/step-8");
}

TEST_F(CheckpointTest, FailsAsStorageWhereItCannotBeWritten) {
  std::ofstream(folder_) << "a file where the folder should be";
  CheckpointWriter writer(env_, folder_, 0, [](const CheckpointWriter::Written&) { FAIL(); });
  ASSERT_OK(writer.Start(checkpoint_));
  EXPECT_THAT(writer.Wait(), StatusIs(absl::StatusCode::kInternal, HasSubstr("step-12")));
}

TEST_F(CheckpointTest, DeletesOnlyWhatARecordedOneReplaces) {
  for (const int step : {2, 4, 6, 8, 10}) {
    ASSERT_OK(WriteCheckpoint(env_, CheckpointPath(folder_, step), 0, checkpoint_));
  }
  std::filesystem::remove(CheckpointPath(folder_, 2) + "/manifest.pb.txt");
  ASSERT_OK(RemoveUnfinished(env_, folder_));
  EXPECT_THAT(*ListCheckpoints(env_, folder_), ElementsAre(4, 6, 8, 10));
  ASSERT_OK(KeepNewest(env_, folder_, /*recorded_step=*/8, 2));
  EXPECT_THAT(*ListCheckpoints(env_, folder_), ElementsAre(6, 8, 10)) << "10 is not recorded yet";
  EXPECT_THAT(FindCheckpoint(env_, folder_ + "/nothing"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("nothing")));
}

TEST(SettingsThatDecide, IgnoresWhatMayChangeBetweenAttempts) {
  v1::Job job;
  job.mutable_training()->set_learning_rate(1e-4);
  job.mutable_training()->set_lora_r(8);
  v1::Job moved = job;
  moved.set_name("again");
  moved.mutable_architecture()->set_llm_backbone("/elsewhere/model");
  moved.mutable_dataset()->set_train_dataframe("/elsewhere/rows.jsonl");
  moved.mutable_training()->set_batch_size(1);
  moved.mutable_training()->set_save_steps(3);
  moved.mutable_environment()->set_number_of_workers(7);
  EXPECT_EQ(SettingsThatDecide(job).DebugString(), SettingsThatDecide(moved).DebugString());
  moved.mutable_training()->set_lora_r(16);
  EXPECT_NE(SettingsThatDecide(job).DebugString(), SettingsThatDecide(moved).DebugString());
}

TEST(CheckpointCadence, StretchesTimeSoThatCheckpointsCostTwoPercent) {
  v1::Training training;
  training.set_save_seconds(300);
  CheckpointCadence cadence(training, 1000);
  EXPECT_FALSE(cadence.Due(1, 1299));
  EXPECT_TRUE(cadence.Due(1, 1300));
  cadence.Started(1300);
  cadence.Cost(12);  // 12 s are 2 % of 600 s
  EXPECT_FALSE(cadence.Due(2, 1899));
  EXPECT_TRUE(cadence.Due(2, 1900));
}

TEST(CheckpointCadence, CountsStepsWhereTheJobSaysSo) {
  v1::Training training;
  training.set_save_steps(5);
  const CheckpointCadence cadence(training, 0);
  EXPECT_TRUE(cadence.Due(10, 0));
  EXPECT_FALSE(cadence.Due(11, 1e9));
}

}  // namespace
}  // namespace studio
