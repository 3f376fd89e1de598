#include "tests/sim/scenario.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/sim/random.h"

namespace studio::sim {
namespace {

constexpr absl::Duration kFaultsEnd = absl::Seconds(300);
constexpr int kJobs = 20;
constexpr int kFaults = 50;

JobScript NewJob(int number, Random& random) {
  JobScript job;
  job.number = number;
  job.submit_at = random.Ms(0, 200'000);
  job.devices = static_cast<int>(random.Chance(25) ? 2 : 1);
  job.steps = static_cast<int>(random.Between(4, 12));
  job.save_steps = static_cast<int>(random.Between(1, 4));
  job.step_time = random.Ms(300, 2000);
  job.fence_seconds = static_cast<int>(random.Between(20, 90));
  if (random.Chance(20)) job.max_alone_seconds = static_cast<int>(random.Between(5, 40));
  if (random.Chance(20)) {
    job.max_crashes = static_cast<int>(random.Between(0, 2));
    job.crashes = static_cast<int>(random.Between(1, 3));
  }
  if (random.Chance(10)) job.oom_above_micro = static_cast<int>(random.Between(1, 3));
  job.deaf = random.Chance(10);
  if (random.Chance(25)) job.cancel_at = job.submit_at + random.Ms(0, 60'000);
  job.retried = random.Chance(15);
  return job;
}

Fault NewFault(int workers, Random& random) {
  Fault fault;
  fault.at = random.Ms(1000, absl::ToInt64Milliseconds(kFaultsEnd) - 1000);
  fault.kind = static_cast<FaultKind>(random.Between(0, static_cast<int>(FaultKind::kLastDrawn)));
  fault.worker = static_cast<int>(random.Between(0, workers - 1));
  // Most are short; some outlast every fence.
  fault.length = random.Chance(70) ? random.Ms(200, 20'000) : random.Ms(20'000, 150'000);
  fault.length = std::min(fault.length, kFaultsEnd - fault.at);
  fault.detail = random.Between(0, 1'000'000);
  return fault;
}

}  // namespace

Scenario NewScenario(uint64_t seed) {
  Random random(seed, "scenario");
  Scenario scenario;
  scenario.seed = seed;
  scenario.workers = static_cast<int>(random.Between(5, 7));
  for (int i = 0; i < scenario.workers; ++i) scenario.devices.push_back(static_cast<int>(random.Between(1, 3)));
  scenario.devices[0] = 2;  // some worker can hold the widest job, and it is never lost
  for (int i = 1; i <= kJobs; ++i) scenario.jobs.push_back(NewJob(i, random));
  int lost = 0;
  for (int i = 0; i < kFaults; ++i) {
    Fault fault = NewFault(scenario.workers, random);
    if (fault.kind == FaultKind::kLoseMachine && (fault.worker < 3 || ++lost > 2)) fault.kind = FaultKind::kReboot;
    scenario.faults.push_back(fault);
  }
  std::sort(scenario.faults.begin(), scenario.faults.end(), [](const Fault& a, const Fault& b) { return a.at < b.at; });
  scenario.faults_end = kFaultsEnd;
  return scenario;
}

const char* FaultName(FaultKind kind) {
  static constexpr const char* kNames[] = {
      "its stream breaks",
      "it is cut off from the controller",
      "nothing it says reaches the controller",
      "nothing the controller says reaches it",
      "its network is slow",
      "its numbered messages come twice",
      "its agent is killed",
      "its agent is killed at a change of its disk",
      "it loses power and boots anew",
      "it is gone for good",
      "its agent is stopped (SIGSTOP)",
      "it is suspended",
      "its clock is set",
      "one of its ranks is killed",
      "its disk is full",
      "its disk is slow",
      "it drains and starts anew",
      "the controller is killed",
      "the controller is killed in a commit",
      "the controller is stopped (SIGSTOP)",
      "the store is slow",
      "a commit fails",
      "a commit fails though it is stored",
      "the controller is away",
  };
  static_assert(std::size(kNames) == static_cast<size_t>(FaultKind::kLast) + 1);
  return kNames[static_cast<size_t>(kind)];
}

std::string Describe(const Fault& fault) {
  const std::string who = fault.kind >= FaultKind::kCrashController ? "" : absl::StrCat("worker w", fault.worker, ": ");
  return absl::StrCat("at ", absl::FormatDuration(fault.at), " ", who, FaultName(fault.kind), " (",
                      absl::FormatDuration(fault.length), ", ", fault.detail, ")");
}

std::string Describe(const JobScript& job) {
  std::string text =
      absl::StrCat("at ", absl::FormatDuration(job.submit_at), " job r", job.number, " is submitted: ", job.steps,
                   " steps of ", absl::FormatDuration(job.step_time), " on ", job.devices,
                   " devices, checkpoint every ", job.save_steps, ", fence ", job.fence_seconds, " s");
  if (job.crashes > 0) absl::StrAppend(&text, "; crashes ", job.crashes, " times, ", job.max_crashes, " allowed");
  if (job.oom_above_micro > 0) absl::StrAppend(&text, "; out of memory above micro batch ", job.oom_above_micro);
  if (job.deaf) absl::StrAppend(&text, "; deaf to stops");
  if (job.max_alone_seconds < 86400) absl::StrAppend(&text, "; ends when alone for ", job.max_alone_seconds, " s");
  if (job.cancel_at < absl::InfiniteDuration()) {
    absl::StrAppend(&text, "; cancelled at ", absl::FormatDuration(job.cancel_at));
  }
  if (job.retried) absl::StrAppend(&text, "; retried after its end");
  return text;
}

}  // namespace studio::sim
