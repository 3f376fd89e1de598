// What tests of faults share: a folder of their own, a controller and workers there that run the no-op trainer, and the
// judgement once everything is over. The test starts the programs.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "common/status/testing.h"
#include "tests/faults/judge.h"
#include "tests/integration/cluster.h"
#include "tests/integration/started_trainers.h"

namespace studio {

class NoopClusterTest : public testing::Test {
 protected:
  void SetUp() override {
    MakeFolder();
    if (!HasFatalFailure()) MakeCluster();
  }
  void TearDown() override {
    cluster_.reset();
    std::filesystem::remove_all(folder_);
  }

  void MakeFolder() {
    std::string name = "/tmp/studio-fault-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void MakeCluster(const std::string& host = "127.0.0.1") {
    ASSERT_OK_AND_ASSIGN(trainers_, StartedTrainers::Create(folder_, "tests/noop/noop_trainer"));
    Cluster::Binaries binaries;
    binaries.trainer = trainers_->program();
    cluster_.emplace(folder_, binaries, host);
  }

  // Every job that a client was told of (request → job) is well, and is stored whole. The programs are gone then.
  void ExpectAllWell(const std::map<std::string, std::string>& acknowledged, int steps) {
    ASSERT_OK_AND_ASSIGN(const std::vector<v1::JobRecord> jobs, ListAllJobs(cluster_->api()));
    EXPECT_OK(Judge(jobs, acknowledged, steps, trainers_->overlaps()));
    cluster_->KillWorker();
    cluster_->KillController();
    EXPECT_OK(cluster_->VerifyController());
  }

  std::string folder_;
  std::optional<StartedTrainers> trainers_;
  std::optional<Cluster> cluster_;
};

}  // namespace studio
