// A disk of a few MiB (a tmpfs that is this test's alone) fills up under a controller, then under an agent, while a job
// trains: it ends with an error that says so, and once there is room again it goes on where it was.
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status/testing.h"
#include "tests/faults/noop_cluster_test.h"

namespace studio {
namespace {

constexpr int kSteps = 60;

class FullDiskTest : public NoopClusterTest {
 protected:
  void SetUp() override {
    MakeFolder();
    if (HasFatalFailure()) return;
    // Mounts of this process and its children alone: they go with it.
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      GTEST_SKIP() << "this user may mount nothing (" << strerror(errno) << ")";
    }
    for (const char* program : {"/controller", "/worker"}) {
      std::filesystem::create_directory(folder_ + program);
      ASSERT_EQ(mount("tmpfs", (folder_ + program).c_str(), "tmpfs", 0, "size=6m"), 0) << strerror(errno);
    }
    MakeCluster();
    if (HasFatalFailure()) return;
    ASSERT_OK(cluster_->StartController());
    ASSERT_OK(cluster_->StartWorker());
    ASSERT_OK_AND_ASSIGN(
        job_, cluster_->WriteJob(
                  {{"noop.steps", absl::StrCat(kSteps)}, {"noop.step_ms", "20"}, {"noop.checkpoint_every", "5"}},
                  "retry { max_crashes: 1000 }\n"));
    ASSERT_OK_AND_ASSIGN(first_, cluster_->SubmitFile(job_));
    acknowledged_["first"] = first_;
    ASSERT_OK(cluster_->Await(first_, [](const v1::JobRecord& record) { return record.checkpoint().step() >= 5; }));
  }
  void TearDown() override {
    cluster_.reset();
    for (const char* program : {"/controller", "/worker"}) umount2((folder_ + program).c_str(), MNT_DETACH);
    NoopClusterTest::TearDown();
  }

  void Fill(const std::string& disk) {
    std::ofstream ballast(disk + "/ballast", std::ios::binary);
    const std::string block(4096, 'x');
    while (ballast.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  void MakeRoom(const std::string& disk) { std::filesystem::remove(disk + "/ballast"); }

  void ExpectAllWell() {
    for (const auto& [request, id] : acknowledged_) ASSERT_OK(cluster_->AwaitState(id, v1::SUCCEEDED)) << request;
    NoopClusterTest::ExpectAllWell(acknowledged_, kSteps);
  }

  std::string job_, first_;
  std::map<std::string, std::string> acknowledged_;
};

TEST_F(FullDiskTest, AControllerEndsAndGoesOnOnceThereIsRoom) {
  Fill(folder_ + "/controller");
  // Submits go on until one is refused; the job's own changes of state need room, too.
  for (int i = 0;; ++i) {
    const std::string request = absl::StrCat("more-", i);
    ASSERT_OK_AND_ASSIGN(const Cluster::Ctl ctl,
                         cluster_->RunCtl({"submit", job_, "-o", "name", "--request-id", request}));
    if (ctl.exit_code != 0) break;
    acknowledged_[request] = Cluster::IdIn(ctl);
  }
  ASSERT_OK_AND_ASSIGN(const ProcessEnd end, cluster_->AwaitControllerEnd());
  EXPECT_EQ(end, (ProcessEnd{1, 0}));
  MakeRoom(folder_ + "/controller");
  ASSERT_OK(cluster_->StartController());
  ExpectAllWell();
}

TEST_F(FullDiskTest, AnAgentEndsAndItsJobGoesOnOnceThereIsRoom) {
  Fill(folder_ + "/worker");
  ASSERT_OK_AND_ASSIGN(const ProcessEnd end, cluster_->AwaitWorkerEnd());
  EXPECT_EQ(end, (ProcessEnd{1, 0}));
  MakeRoom(folder_ + "/worker");
  ASSERT_OK(cluster_->StartWorker());
  ExpectAllWell();
}

}  // namespace
}  // namespace studio
