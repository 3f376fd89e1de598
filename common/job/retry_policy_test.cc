#include "common/job/retry_policy.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace studio {
namespace {

v1::JobRecord JobWith(int micro, const std::vector<v1::Reason>& failures) {
  v1::JobRecord record;
  record.set_id("j1");
  record.mutable_job()->mutable_retry()->set_max_crashes(3);
  record.mutable_job()->mutable_retry()->set_max_hangs(2);
  for (const v1::Reason reason : failures) {
    v1::Attempt& attempt = *record.add_attempts();
    attempt.set_state(v1::ATTEMPT_FAILED);
    attempt.set_reason(reason);
    attempt.mutable_plan()->set_micro(micro);
    attempt.mutable_plan()->set_accumulation(2);
  }
  return record;
}

TEST(RetryPolicy, FollowsTheTable) {
  struct Row {
    std::string name;
    std::vector<v1::Reason> failures;
    int micro;
    bool retried;
  };
  using enum v1::Reason;
  const std::vector<v1::Reason> many_losses(50, NODE_LOST);
  const std::vector<Row> rows = {
      {"first crash", {CRASH}, 1, true},
      {"third crash", {CRASH, CRASH, CRASH}, 1, true},
      {"fourth crash", {CRASH, CRASH, CRASH, CRASH}, 1, false},
      {"losses do not use up the crashes", {CRASH, NODE_LOST, NODE_LOST, CRASH, NODE_LOST, CRASH}, 1, true},
      {"second hang", {HANG, HANG}, 1, true},
      {"third hang", {HANG, HANG, HANG}, 1, false},
      {"any number of lost nodes", many_losses, 1, true},
      {"drained", {WORKER_DRAINED}, 1, true},
      {"preempted", {PREEMPTED_BY_SCHEDULER}, 1, true},
      {"bad input", {BAD_INPUT}, 4, false},
      {"diverged", {DIVERGED}, 4, false},
      {"disk, as a crash", {STORAGE}, 1, true},
      {"unknown, as a crash", {static_cast<v1::Reason>(77)}, 1, true},
      {"device memory, can be halved", {DEVICE_OOM}, 2, true},
      {"device memory, cannot", {DEVICE_OOM}, 1, false},
      {"host memory, can be halved", {HOST_OOM}, 2, true},
      {"host memory, cannot", {HOST_OOM}, 1, false},
      {"device memory, halved already", {DEVICE_OOM, DEVICE_OOM}, 4, false},
      {"one budget for both memories", {DEVICE_OOM, HOST_OOM}, 4, false},
      {"crashes do not use up the memory's retry", {CRASH, NODE_LOST, HOST_OOM}, 4, true},
      {"memory's retry does not use up the crashes", {DEVICE_OOM, CRASH, CRASH, CRASH}, 4, true},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(ShouldRetry(JobWith(row.micro, row.failures)), row.retried) << row.name;
  }
}

TEST(NextPlan, ComesFromTheJobAtFirst) {
  v1::JobRecord record;
  record.mutable_job()->mutable_training()->set_batch_size(4);
  record.mutable_job()->mutable_training()->set_grad_accumulation(3);
  record.mutable_job()->mutable_resources()->set_devices(2);
  record.mutable_job()->mutable_architecture()->set_gradient_checkpointing(true);
  const v1::BatchPlan plan = NextPlan(record);
  EXPECT_EQ(plan.global(), 24);
  EXPECT_EQ(plan.micro(), 4);
  EXPECT_EQ(plan.accumulation(), 3);
  EXPECT_TRUE(plan.recompute());
  EXPECT_EQ(plan.revision(), 1);
  EXPECT_EQ(plan.cause(), "submitted");
}

TEST(NextPlan, HalvesTheMicroBatchAfterOutOfMemoryAndSaysSo) {
  v1::JobRecord record = JobWith(8, {v1::DEVICE_OOM});
  record.mutable_attempts(0)->mutable_plan()->set_revision(1);
  const v1::BatchPlan plan = NextPlan(record);
  EXPECT_EQ(plan.micro(), 4);
  EXPECT_EQ(plan.accumulation(), 4);
  EXPECT_EQ(plan.revision(), 2);
  EXPECT_EQ(plan.cause(), "DEVICE_OOM");
}

TEST(NextPlan, KeepsTheGlobalBatchWhereTheMicroBatchIsOdd) {
  v1::JobRecord record = JobWith(7, {v1::HOST_OOM});
  const v1::BatchPlan plan = NextPlan(record);
  EXPECT_EQ(plan.micro(), 2);  // 14 rows: 3 does not divide them
  EXPECT_EQ(plan.micro() * plan.accumulation(), 14);
}

TEST(NextPlan, KeepsThePlanAfterACrash) {
  v1::JobRecord record = JobWith(8, {v1::CRASH});
  EXPECT_EQ(NextPlan(record).micro(), 8);
}

TEST(NextPlan, GoesOnWithTheCheckpointsPlanInARetriedJob) {
  v1::JobRecord record;
  record.mutable_job()->mutable_training()->set_batch_size(4);
  record.mutable_checkpoint()->mutable_plan()->set_micro(1);
  EXPECT_EQ(NextPlan(record).micro(), 1);
}

}  // namespace
}  // namespace studio
