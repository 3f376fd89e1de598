// Controller and worker in network namespaces of their own, and packets lost between them, one way or both, for longer
// than lost_after: nothing is lost, nothing runs twice.

#include <filesystem>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status/testing.h"
#include "tests/faults/far_side.h"
#include "tests/faults/noop_cluster_test.h"

namespace studio {
namespace {

constexpr int kSteps = 200;

struct Way {
  const char* name;
  bool up, down;
};

class PartitionTest : public NoopClusterTest, public testing::WithParamInterface<Way> {
 protected:
  // Of the whole process: before gRPC has threads.
  static void SetUpTestSuite() { far_ = new absl::StatusOr<std::unique_ptr<FarSide>>(FarSide::Create()); }
  static void TearDownTestSuite() { delete far_; }

  void SetUp() override {
    if (!far_->ok()) GTEST_SKIP() << "no network namespaces: " << far_->status().ToString();
    MakeFolder();
    if (!HasFatalFailure()) MakeCluster(far().near_address());
    if (HasFatalFailure()) return;
    ASSERT_OK(cluster_->StartController({}, {"--lost-after", "1.5", "--insecure"}));
    ASSERT_OK(cluster_->StartWorker(far().prefix()));
  }
  void TearDown() override {
    if (!far_->ok()) return;
    EXPECT_OK(far().Cut(false, false));
    NoopClusterTest::TearDown();
  }

  static FarSide& far() { return ***far_; }

  void SubmitAndAwaitCheckpoint(double fence_seconds) {
    ASSERT_OK_AND_ASSIGN(
        id_,
        cluster_->Submit({{"noop.steps", absl::StrCat(kSteps)}, {"noop.step_ms", "20"}, {"noop.checkpoint_every", "5"}},
                         absl::StrCat("retry { fence_seconds: ", fence_seconds, " }\n")));
    ASSERT_OK(cluster_->Await(id_, [](const v1::JobRecord& record) { return record.checkpoint().step() >= 5; }));
  }
  void ExpectAllWell(int attempts) {
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord end, cluster_->AwaitState(id_, v1::SUCCEEDED));
    EXPECT_EQ(end.attempts_size(), attempts) << end.ShortDebugString();
    NoopClusterTest::ExpectAllWell({{"the one", id_}}, kSteps);
  }

  static absl::StatusOr<std::unique_ptr<FarSide>>* far_;
  std::string id_;
};

absl::StatusOr<std::unique_ptr<FarSide>>* PartitionTest::far_ = nullptr;

TEST_P(PartitionTest, WithinTheFenceItIsAsIfNothingHadHappened) {
  SubmitAndAwaitCheckpoint(/*fence_seconds=*/300);
  if (HasFatalFailure()) return;
  ASSERT_OK(far().Cut(GetParam().up, GetParam().down));
  ASSERT_OK(cluster_->Await(
      id_, [](const v1::JobRecord& record) { return record.attempts(0).state() == v1::ATTEMPT_UNKNOWN; }));
  ASSERT_OK(far().Cut(false, false));
  ExpectAllWell(/*attempts=*/1);
}

TEST_P(PartitionTest, BeyondTheFenceAnotherWorkerGoesOnAndOnlyItsWordCounts) {
  SubmitAndAwaitCheckpoint(/*fence_seconds=*/1);
  if (HasFatalFailure()) return;
  ASSERT_OK(far().Cut(GetParam().up, GetParam().down));
  Cluster::Binaries near;
  near.trainer = trainers_->program();
  ASSERT_OK(cluster_->AddWorker("near", near));
  ASSERT_OK(cluster_->Await(id_, [](const v1::JobRecord& record) {
    return record.attempts_size() == 2 && record.attempts(1).state() == v1::ATTEMPT_RUNNING;
  }));
  ASSERT_OK(far().Cut(false, false));
  ExpectAllWell(/*attempts=*/2);
}

INSTANTIATE_TEST_SUITE_P(All, PartitionTest,
                         testing::Values(Way{"BothWays", true, true}, Way{"Unheard", true, false},
                                         Way{"Deaf", false, true}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace studio
