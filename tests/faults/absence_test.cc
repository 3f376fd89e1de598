// A controller that is away for longer than any timer of its own. Training does not notice: docs/failure_model.md. The
// same for ten minutes of simulated time is in tests/sim/sim_test.cc.

#include <filesystem>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status/testing.h"
#include "tests/faults/noop_cluster_test.h"

namespace studio {
namespace {

constexpr int kSteps = 700, kStepMs = 20;
// Together longer than a worker's longest wait between two dials, 5 s: it must have the chance to be back in time.
constexpr double kLostAfter = 1, kFence = 6;

using AbsenceTest = NoopClusterTest;

TEST_F(AbsenceTest, AControllerThatIsAwayForLongerThanTheFenceFindsTheSameAttempt) {
  const std::vector<std::string> flags = {"--lost-after", absl::StrCat(kLostAfter)};
  ASSERT_OK(cluster_->StartController({}, flags));
  ASSERT_OK(cluster_->StartWorker());
  ASSERT_OK_AND_ASSIGN(const std::string id, cluster_->Submit({{"noop.steps", absl::StrCat(kSteps)},
                                                               {"noop.step_ms", absl::StrCat(kStepMs)},
                                                               {"noop.checkpoint_every", "5"}},
                                                              absl::StrCat("retry { fence_seconds: ", kFence, " }\n")));
  ASSERT_OK_AND_ASSIGN(const StartedTrainer trainer, trainers_->Next());
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord before, cluster_->Await(id, [](const v1::JobRecord& record) {
    return record.checkpoint().step() >= 5;
  }));
  cluster_->KillController();
  // Time is told by the training itself: so many steps take longer than both timers together.
  const int steps = static_cast<int>((kLostAfter + kFence) * 1000 * 1.2 / kStepMs);
  ASSERT_OK_AND_ASSIGN(NewEntries checkpoints,
                       NewEntries::In(absl::StrCat(cluster_->worker_state_dir(), "/attempts/", id, "-a1-e",
                                                   before.attempts(0).epoch(), "/out/checkpoints")));
  ASSERT_OK(checkpoints.Await("step-", static_cast<int>(before.progress().step()) + steps));
  EXPECT_FALSE(trainer.Ended());
  ASSERT_OK(cluster_->StartController({}, flags));
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord end, cluster_->AwaitState(id, v1::SUCCEEDED));
  ASSERT_EQ(end.attempts_size(), 1) << end.ShortDebugString();
  EXPECT_EQ(end.attempts(0).epoch(), before.attempts(0).epoch());
  EXPECT_FALSE(trainers_->More()) << "a second trainer was started";
  ASSERT_OK_AND_ASSIGN(const std::vector<v1::JobRecord> jobs, ListAllJobs(cluster_->api()));
  EXPECT_OK(Judge(jobs, {{"the one", id}}, kSteps, trainers_->overlaps()));
}

}  // namespace
}  // namespace studio
