// The whole control path with real binaries and real deaths: what a person sees when something dies.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status/testing.h"
#include "common/time/patience.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

using testing::HasSubstr;

class ControlPathTest : public testing::Test {
 protected:
  void SetUp() override {
    // Not below the test's own folder: one test's worker runs as a user that cannot see that.
    std::string name = "/tmp/studio-control-path-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    chmod(folder_.c_str(), 0755);
    cluster_ = std::make_unique<Cluster>(folder_, Cluster::Binaries{});
    ASSERT_OK(cluster_->StartController());
  }
  void TearDown() override {
    cluster_.reset();
    std::filesystem::remove_all(folder_);
  }

  Cluster::Ctl Ctl(const std::vector<std::string>& arguments) {
    const absl::StatusOr<Cluster::Ctl> ctl = cluster_->RunCtl(arguments);
    EXPECT_OK(ctl);
    return ctl.value_or(Cluster::Ctl{-1, ""});
  }
  absl::StatusOr<v1::JobRecord> AwaitStep(const std::string& id, int64_t step) {
    return cluster_->Await(id, [=](const v1::JobRecord& record) { return record.progress().step() >= step; });
  }
  // Each step's line once and in order.
  static std::string Lines(int from, int to) {
    std::string lines;
    for (int step = from; step <= to; ++step) absl::StrAppend(&lines, "step ", step, "\n");
    return lines;
  }

  std::string folder_;
  std::unique_ptr<Cluster> cluster_;
};

TEST_F(ControlPathTest, FromSubmitToAResultAtHome) {
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const std::string job, cluster_->WriteJob({{"noop.steps", "5"}, {"noop.print_steps", "1"}}));
  const Cluster::Ctl submitted = Ctl({"submit", job, "--follow"});
  EXPECT_EQ(submitted.exit_code, 0) << submitted.output;
  EXPECT_THAT(submitted.output, HasSubstr("j1"));
  const Cluster::Ctl downloaded = Ctl({"download", "j1", "--out", folder_ + "/home"});
  EXPECT_EQ(downloaded.exit_code, 0) << downloaded.output;
  ASSERT_OK_AND_ASSIGN(const std::string result, PosixEnv().ReadFile(folder_ + "/home/result.txt"));
  EXPECT_EQ(result, "trained nothing for 5 steps\n");
  EXPECT_EQ(Ctl({"logs", "j1"}).output, Lines(1, 5));
  EXPECT_THAT(Ctl({"list"}).output, HasSubstr("SUCCEEDED"));
  EXPECT_THAT(Ctl({"workers"}).output, HasSubstr("no-op"));
  EXPECT_EQ(Ctl({"get", "j2"}).exit_code, 102);
}

TEST_F(ControlPathTest, AJobThatFailsSaysWhyAndEndsWithItsCode) {
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const std::string job,
                       cluster_->WriteJob({{"noop.fail", "BAD_INPUT: rows.jsonl:3: no answer anywhere"}}));
  const Cluster::Ctl submitted = Ctl({"submit", job, "--follow"});
  EXPECT_EQ(submitted.exit_code, 100);
  EXPECT_THAT(submitted.output, HasSubstr("rows.jsonl:3: no answer anywhere"));
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState("j1", v1::FAILED));
  EXPECT_EQ(record.attempts_size(), 1) << "bad input is not tried again";
}

TEST_F(ControlPathTest, TrainingGoesOnWhileTheControllerIsDead) {
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(
      const std::string id,
      cluster_->Submit(
          {{"noop.steps", "400"}, {"noop.step_ms", "5"}, {"noop.checkpoint_every", "50"}, {"noop.print_steps", "1"}}));
  ASSERT_OK(AwaitStep(id, 20));
  cluster_->KillController();
  ASSERT_OK(cluster_->StartController());
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::SUCCEEDED));
  EXPECT_EQ(record.attempts_size(), 1) << record.ShortDebugString();
  EXPECT_EQ(record.progress().step(), 400);
  EXPECT_EQ(record.checkpoint().step(), 400);
  EXPECT_EQ(Ctl({"logs", id}).output, Lines(1, 400));
}

TEST_F(ControlPathTest, AKilledWorkerComesBackAndTheJobGoesOnFromItsCheckpointAtOnce) {
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(
      const std::string id,
      cluster_->Submit(
          {{"noop.steps", "100"}, {"noop.step_ms", "10"}, {"noop.checkpoint_every", "10"}, {"noop.print_steps", "1"}}));
  ASSERT_OK(cluster_->Await(id, [](const v1::JobRecord& record) { return record.checkpoint().step() >= 10; }));
  cluster_->KillWorker();
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::SUCCEEDED));
  ASSERT_EQ(record.attempts_size(), 2) << record.ShortDebugString();
  EXPECT_EQ(record.attempts(0).reason(), v1::NODE_LOST);
  EXPECT_GE(record.attempts(1).start_step(), 10);
  const int start = static_cast<int>(record.attempts(1).start_step());
  EXPECT_EQ(Ctl({"logs", id, "--attempt", "2"}).output, Lines(start + 1, 100));
}

TEST_F(ControlPathTest, AKilledTrainerIsStartedAgainFromItsCheckpoint) {
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const std::string id, cluster_->Submit({{"noop.steps", "8"},
                                                               {"noop.checkpoint_every", "2"},
                                                               {"noop.fail", "signal 9"},
                                                               {"noop.fail_at", "5"},
                                                               {"noop.fail_attempts", "1"}}));
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::SUCCEEDED));
  ASSERT_EQ(record.attempts_size(), 2) << record.ShortDebugString();
  EXPECT_EQ(record.attempts(0).reason(), v1::CRASH);
  EXPECT_EQ(record.attempts(0).signal(), SIGKILL);
  EXPECT_EQ(record.attempts(0).failed_rank(), 0);
  EXPECT_EQ(record.attempts(1).start_step(), 4);
}

TEST_F(ControlPathTest, ACancelledJobEndsCancelled) {
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const std::string id, cluster_->Submit({{"noop.steps", "1000000"}, {"noop.step_ms", "5"}}));
  ASSERT_OK(AwaitStep(id, 1));
  const Cluster::Ctl cancelled = Ctl({"cancel", id});
  EXPECT_EQ(cancelled.exit_code, 0) << cancelled.output;
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::CANCELLED));
  EXPECT_EQ(record.attempts(0).state(), v1::ATTEMPT_CANCELLED);
  EXPECT_EQ(Ctl({"watch", id}).exit_code, 103);
}

TEST_F(ControlPathTest, ARetryIsANewJobThatStartsFromTheOldOnesCheckpoint) {
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const std::string id, cluster_->Submit({{"noop.steps", "8"},
                                                               {"noop.checkpoint_every", "2"},
                                                               {"noop.fail", "BAD_INPUT: not this time"},
                                                               {"noop.fail_at", "5"},
                                                               {"noop.fail_fresh", "1"}}));
  ASSERT_OK(cluster_->AwaitState(id, v1::FAILED));
  const Cluster::Ctl retried = Ctl({"retry", id});
  EXPECT_EQ(retried.exit_code, 0) << retried.output;
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState("j2", v1::SUCCEEDED));
  EXPECT_EQ(record.parent_id(), id);
  EXPECT_EQ(record.attempts(0).start_step(), 4);
}

TEST_F(ControlPathTest, AJobWaitsForAWorker) {
  ASSERT_OK_AND_ASSIGN(const std::string id, cluster_->Submit({}));
  ASSERT_OK(cluster_->AwaitState(id, v1::PENDING));
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK(cluster_->AwaitState(id, v1::SUCCEEDED));
}

TEST_F(ControlPathTest, OnlyTheFilesThatTheJobNamesStay) {
  cluster_->KillController();
  ASSERT_OK(cluster_->StartController({}, {"--keep-superseded-minutes", "0"}));
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(
      const std::string id,
      cluster_->Submit({{"noop.steps", "12"}, {"noop.checkpoint_every", "2"}, {"noop.step_ms", "20"}}));
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster_->AwaitState(id, v1::SUCCEEDED));
  std::set<std::string> named;
  for (const v1::Input& input : record.inputs()) {
    for (const v1::FileRef& file : input.artifact().files()) named.insert(file.sha256());
  }
  for (const v1::FileRef& file : record.result().files()) named.insert(file.sha256());
  for (const v1::CheckpointShard& shard : record.checkpoint().shards()) named.insert(shard.file().sha256());
  const auto there = [&] {
    std::set<std::string> blobs;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ + "/controller/content/blobs")) {
      if (entry.is_regular_file()) blobs.insert(entry.path().filename().string());
    }
    return blobs;
  };
  const absl::Time limit = absl::Now() + Patience(absl::Seconds(30));
  while (there() != named && absl::Now() < limit) std::this_thread::yield();
  EXPECT_EQ(there(), named);
  cluster_->KillWorker();
  cluster_->KillController();
  EXPECT_OK(cluster_->VerifyController());
}

TEST_F(ControlPathTest, AJobForAMachineThatIsNotThereWaitsAndSaysWhatLacks) {
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const std::string id, cluster_->Submit({}, "resources { backend: MPS }"));
  const std::string why = "no worker has a device of backend MPS (there are CPU)";
  ASSERT_OK(cluster_->Await(id, [&](const v1::JobRecord& record) { return record.message() == why; }));
  EXPECT_THAT(Ctl({"get", id}).output, HasSubstr(why));
  ASSERT_OK_AND_ASSIGN(const std::string other, cluster_->Submit({}));
  ASSERT_OK(cluster_->AwaitState(other, v1::SUCCEEDED));
}

TEST_F(ControlPathTest, WhatNoMachineOfThePlatformCanDoIsRefused) {
  ASSERT_OK_AND_ASSIGN(
      const std::string job,
      cluster_->WriteJob({}, "resources { backend: CPU } environment { mixed_precision_dtype: FLOAT16 }"));
  const Cluster::Ctl submitted = Ctl({"submit", job});
  EXPECT_EQ(submitted.exit_code, 105);
  EXPECT_THAT(submitted.output,
              HasSubstr("environment.mixed_precision_dtype: FLOAT16 never works on CPU; use BFLOAT16"));
}

// The worker runs as a user that cannot read a single file of the client's.
TEST_F(ControlPathTest, AWorkerReadsNothingByTheClientsPath) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  if (getenv("STUDIO_EMULATED") != nullptr) {
    GTEST_SKIP() << "another user may not read the emulator's sysroot, which lies in this user's cache";
  }
  Cluster::Binaries binaries;
  for (std::string* binary : {&binaries.worker, &binaries.trainer}) {
    const std::string copy = absl::StrCat(folder_, "/", std::filesystem::path(*binary).filename().string());
    std::filesystem::copy_file(*binary, copy);
    *binary = copy;
  }
  cluster_ = std::make_unique<Cluster>(folder_, binaries);
  ASSERT_OK(cluster_->StartController());
  std::filesystem::create_directories(cluster_->worker_state_dir());
  ASSERT_EQ(chown(cluster_->worker_state_dir().c_str(), 65534, 65534), 0);
  ASSERT_OK(cluster_->StartWorker({"/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}));
  ASSERT_OK_AND_ASSIGN(const std::string job, cluster_->WriteJob({{"noop.print_data", "1"}}));
  ASSERT_EQ(chmod((folder_ + "/client").c_str(), 0700), 0);
  ASSERT_EQ(chmod((folder_ + "/controller").c_str(), 0700), 0);
  EXPECT_EQ(Ctl({"submit", job, "--follow"}).exit_code, 0);
  const std::string log = Ctl({"logs", "j1"}).output;
  EXPECT_THAT(log, HasSubstr(cluster_->worker_state_dir() + "/inputs/"));
  EXPECT_THAT(log, HasSubstr("Say hi"));
}

}  // namespace
}  // namespace studio
