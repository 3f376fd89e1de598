#include "common/job/retry_policy.h"

#include <algorithm>

#include "common/status/check.h"

namespace studio {
namespace {

int AttemptsEndedFor(const v1::JobRecord& record, v1::Reason reason) {
  return std::count_if(record.attempts().begin(), record.attempts().end(), [&](const v1::Attempt& attempt) {
    return attempt.state() == v1::ATTEMPT_FAILED && attempt.reason() == reason;
  });
}

// The largest micro batch of at most half the size that still divides the rank's rows of a step.
void Halve(v1::BatchPlan& plan) {
  const int rows = plan.micro() * plan.accumulation();
  int micro = plan.micro() / 2;
  while (rows % micro != 0) --micro;
  plan.set_micro(micro);
  plan.set_accumulation(rows / micro);
}

}  // namespace

bool IsOutOfMemory(v1::Reason reason) { return reason == v1::DEVICE_OOM || reason == v1::HOST_OOM; }

bool ShouldRetry(const v1::JobRecord& record) {
  STUDIO_CHECK(record.attempts_size() > 0) << record.id() << " has no attempt that could have ended";
  const v1::Attempt& last = *record.attempts().rbegin();
  const v1::Retry& retry = record.job().retry();
  switch (last.reason()) {
    case v1::NODE_LOST:
    case v1::WORKER_DRAINED:
    case v1::PREEMPTED_BY_SCHEDULER:
      return true;
    case v1::HANG:
      return AttemptsEndedFor(record, v1::HANG) <= retry.max_hangs();
    case v1::DEVICE_OOM:
    case v1::HOST_OOM:
      // Once: what half the micro batch does not cure is the weights, or somebody else's memory. A plan that cannot
      // shrink would fail the same way.
      return AttemptsEndedFor(record, v1::DEVICE_OOM) + AttemptsEndedFor(record, v1::HOST_OOM) <= 1 &&
             last.plan().micro() > 1;
    case v1::BAD_INPUT:
    case v1::DIVERGED:  // the same numbers would come again
    case v1::CANCELLED_BY_USER:
      return false;
    case v1::CRASH:
    case v1::STORAGE:
    default:  // a reason that this version does not know counts as a crash
      return AttemptsEndedFor(record, last.reason()) <= retry.max_crashes();
  }
}

v1::BatchPlan NextPlan(const v1::JobRecord& record) {
  v1::BatchPlan plan;
  if (record.attempts_size() > 0) {
    const v1::Attempt& last = *record.attempts().rbegin();
    plan = last.plan();
    if (last.state() == v1::ATTEMPT_FAILED && IsOutOfMemory(last.reason()) && plan.micro() > 1) {
      Halve(plan);
      plan.set_revision(plan.revision() + 1);
      plan.set_cause(v1::Reason_Name(last.reason()));
    }
    return plan;
  }
  if (record.checkpoint().plan().micro() > 0) return record.checkpoint().plan();
  const v1::Training& training = record.job().training();
  plan.set_micro(std::max(1, training.batch_size()));
  plan.set_accumulation(std::max(1, training.grad_accumulation()));
  plan.set_global(plan.micro() * plan.accumulation() * std::max(1, record.job().resources().devices()));
  plan.set_recompute(record.job().architecture().gradient_checkpointing());
  plan.set_revision(1);
  plan.set_cause("submitted");
  return plan;
}

}  // namespace studio
