// What a machine that loses its power, or a disk that lies, leaves behind: a journal without its end or with zeros for
// it, blobs that are shorter or other than they were. Whatever the agent finds, it goes on from an earlier state or
// says what is wrong; it never brings home a result that is none.
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/env/posix_env.h"
#include "common/status/testing.h"
#include "tests/faults/noop_cluster_test.h"

namespace studio {
namespace {

using testing::HasSubstr;

constexpr int kSteps = 40;

class TornWritesTest : public NoopClusterTest {
 protected:
  void SetUp() override {
    NoopClusterTest::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_OK(cluster_->StartController());
    ASSERT_OK(cluster_->StartWorker());
  }

  // A job that trains and has a checkpoint recorded; then its agent is dead.
  void KillAgentInTraining() {
    ASSERT_OK_AND_ASSIGN(
        id_, cluster_->Submit(
                 {{"noop.steps", absl::StrCat(kSteps)}, {"noop.step_ms", "10"}, {"noop.checkpoint_every", "4"}}));
    acknowledged_["for " + id_] = id_;
    ASSERT_OK_AND_ASSIGN(
        record_, cluster_->Await(id_, [](const v1::JobRecord& record) { return record.checkpoint().step() >= 8; }));
    cluster_->KillWorker();
  }

  static std::string Blob(const std::string& state, const v1::JobRecord& record) {
    const std::string& hash = record.checkpoint().shards(0).file().sha256();
    return absl::StrCat(state, "/content/blobs/", hash.substr(0, 2), "/", hash);
  }
  // Another file in its place: the blob's own bytes may have other names.
  static void Replace(const std::string& path, const std::function<void(std::string&)>& change) {
    ASSERT_OK_AND_ASSIGN(std::string bytes, PosixEnv().ReadFile(path));
    change(bytes);
    ASSERT_OK(PosixEnv().RemoveAll(path));
    ASSERT_OK(PosixEnv().WriteFile(path, bytes));
  }

  void ExpectAllWell() { NoopClusterTest::ExpectAllWell(acknowledged_, kSteps); }

  std::string id_;
  v1::JobRecord record_;
  std::map<std::string, std::string> acknowledged_;
};

TEST_F(TornWritesTest, AJournalWithoutItsEndIsAnEarlierState) {
  struct Damage {
    std::string name;
    std::function<void(std::string&)> change;
  };
  std::vector<Damage> damages;
  // A header is 8 bytes; an acknowledgement about 10, an assignment some hundreds.
  for (const size_t lost : {1, 2, 7, 8, 9, 10, 15, 25, 60, 150, 400, 1000, 1'000'000}) {
    damages.push_back({absl::StrCat(lost, " bytes lost"),
                       [lost](std::string& bytes) { bytes.resize(bytes.size() - std::min(lost, bytes.size())); }});
  }
  for (const size_t zeros : {8, 64, 512, 4096}) {
    damages.push_back({absl::StrCat(zeros, " bytes zero"), [zeros](std::string& bytes) {
                         const size_t from = bytes.size() - std::min(zeros, bytes.size());
                         std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes.end(), '\0');
                       }});
  }
  damages.push_back({"a block of zeros more", [](std::string& bytes) { bytes.append(4096, '\0'); }});
  damages.push_back({"a bit in its middle", [](std::string& bytes) { bytes[bytes.size() / 2] ^= 4; }});
  for (const Damage& damage : damages) {
    SCOPED_TRACE(damage.name);
    KillAgentInTraining();
    if (HasFatalFailure()) return;
    Replace(cluster_->worker_state_dir() + "/journal", damage.change);
    ASSERT_OK(cluster_->StartWorker());
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord end, cluster_->AwaitState(id_, v1::SUCCEEDED));
    EXPECT_EQ(end.attempts_size(), 2);
    EXPECT_GE(end.attempts(1).start_step(), record_.checkpoint().step());
  }
  ExpectAllWell();
}

TEST_F(TornWritesTest, AnIdentityThatIsGoneOrTornIsRefusedWithWhatToDo) {
  KillAgentInTraining();
  if (HasFatalFailure()) return;
  ASSERT_OK_AND_ASSIGN(const std::string identity, PosixEnv().ReadFile(cluster_->worker_state_dir() + "/worker"));
  Replace(cluster_->worker_state_dir() + "/worker", [](std::string& bytes) { bytes.assign(bytes.size(), '\0'); });
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const ProcessEnd end, cluster_->AwaitWorkerEnd());
  EXPECT_EQ(end, (ProcessEnd{1, 0}));
  ASSERT_OK(PosixEnv().WriteFile(cluster_->worker_state_dir() + "/worker", identity));
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK(cluster_->AwaitState(id_, v1::SUCCEEDED));
  ExpectAllWell();
}

TEST_F(TornWritesTest, ACheckpointThatTheWorkersDiskLostComesFromTheController) {
  const std::vector<std::function<void(std::string&)>> damages = {
      [](std::string& bytes) { bytes.pop_back(); },
      [](std::string& bytes) { bytes.clear(); },
      [](std::string& bytes) { bytes[3] ^= 1; },
      [](std::string& bytes) { bytes.append(100, '\0'); },
  };
  for (const auto& damage : damages) {
    KillAgentInTraining();
    if (HasFatalFailure()) return;
    Replace(Blob(cluster_->worker_state_dir(), record_), damage);
    ASSERT_OK(cluster_->StartWorker());
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord end, cluster_->AwaitState(id_, v1::SUCCEEDED));
    EXPECT_EQ(end.attempts_size(), 2) << "it should not even be noticed: " << end.ShortDebugString();
  }
  ExpectAllWell();
}

// Rows that were cut at a line's end would train, and succeed.
TEST_F(TornWritesTest, RowsThatTheWorkersDiskLostComeFromTheController) {
  KillAgentInTraining();
  if (HasFatalFailure()) return;
  const v1::FileRef* rows = nullptr;
  for (const v1::Input& input : record_.inputs()) {
    if (input.field() == "dataset.train_dataframe") rows = &input.artifact().files(0);
  }
  ASSERT_NE(rows, nullptr);
  const std::string path =
      absl::StrCat(cluster_->worker_state_dir(), "/content/blobs/", rows->sha256().substr(0, 2), "/", rows->sha256());
  ASSERT_OK_AND_ASSIGN(const std::string whole, PosixEnv().ReadFile(path));
  Replace(path, [](std::string& bytes) { bytes.clear(); });
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK(cluster_->AwaitState(id_, v1::SUCCEEDED));
  ASSERT_OK_AND_ASSIGN(const std::string again, PosixEnv().ReadFile(path));
  EXPECT_EQ(again, whole);
  ExpectAllWell();
}

// Both copies are gone: nothing can be made of it, and nothing is.
TEST_F(TornWritesTest, ACheckpointThatTheControllersDiskLostEndsTheJobWithTheReason) {
  KillAgentInTraining();
  if (HasFatalFailure()) return;
  cluster_->KillController();
  ASSERT_OK(PosixEnv().RemoveAll(Blob(cluster_->worker_state_dir(), record_)));
  Replace(Blob(folder_ + "/controller", record_), [](std::string& bytes) { bytes[3] ^= 1; });
  ASSERT_OK(cluster_->StartController());
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord end, cluster_->AwaitState(id_, v1::FAILED));
  EXPECT_EQ(end.reason(), v1::STORAGE);
  EXPECT_THAT(end.message(), HasSubstr(record_.checkpoint().shards(0).file().sha256()));
  cluster_->KillWorker();
  cluster_->KillController();
  EXPECT_FALSE(cluster_->VerifyController().ok()) << "a person who looks is told, too";
}

}  // namespace
}  // namespace studio
