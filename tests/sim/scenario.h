// What one seed plays: workers, jobs with their scripts, what clients ask, and faults. All of it is drawn before the
// run, so that a failing seed can be shrunk by leaving parts out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace studio::sim {

// A budget that no run exhausts.
inline constexpr int kManyCrashes = 1000;

struct JobScript {
  int number = 0;  // its client's name for it: request id "r<number>"
  absl::Duration submit_at;
  int devices = 1;
  int steps = 10;
  int save_steps = 3;
  absl::Duration step_time;
  int fence_seconds = 60;
  int max_alone_seconds = 86400;
  // Crashes of the trainer's own, each once, at this step of the job's first attempts. The budget allows `max_crashes`.
  int crashes = 0;
  int max_crashes = kManyCrashes;
  // Runs out of memory while the micro batch is above this; 0: never.
  int oom_above_micro = 0;
  // The trainer does not hear a stop.
  bool deaf = false;
  absl::Duration cancel_at = absl::InfiniteDuration();
  // After its end: `studioctl retry`.
  bool retried = false;
};

enum class FaultKind {
  kBreakStream,        // both ends learn of it at different times
  kPartition,          // nothing passes, for `length`
  kPartitionUp,        // nothing from the worker to the controller
  kPartitionDown,      // nothing from the controller to the worker
  kSlowNetwork,        // up to 5 s for each message
  kDuplicate,          // numbered messages come twice
  kCrashAgent,         // SIGKILL
  kCrashAgentAtPoint,  // at the n-th change of its disk: before it, or after it
  kReboot,             // power lost: unsynced bytes are gone, but for a torn piece; new boot id
  kLoseMachine,        // never comes back
  kPauseAgent,         // SIGSTOP, for `length`; ranks run on
  kSuspendMachine,     // the lid closes: all stands still, its clock too
  kJumpWallClock,      // somebody sets the worker's clock
  kKillRank,           // a rank dies by SIGKILL
  kWorkerDiskFull,     // every change fails, for `length`
  kWorkerDiskSlow,     // a change takes up to 2 s
  kDrain,              // SIGTERM: hands back, ends, starts again
  kCrashController,    // SIGKILL, or power lost: what is being written is there, or is not
  kCrashControllerAtCommit,
  kPauseController,  // SIGSTOP, for `length`
  kStoreSlow,        // a commit takes up to 2 s
  kStoreFails,       // a commit fails and is not there
  kStoreAnswerLost,  // a commit fails, and is there
  kLastDrawn = kStoreAnswerLost,
  // Told by named tests alone: a seed is 300 s.
  kControllerAway,  // SIGKILL, and nobody starts it again for `length`
  kLast = kControllerAway,
};
const char* FaultName(FaultKind kind);

struct Fault {
  absl::Duration at;
  FaultKind kind = FaultKind::kBreakStream;
  int worker = 0;
  absl::Duration length;
  int64_t detail = 0;
};

struct Scenario {
  uint64_t seed = 0;
  int workers = 5;
  std::vector<int> devices;  // of each worker
  std::vector<JobScript> jobs;
  std::vector<Fault> faults;
  // No fault begins after this, and all that lasted are over.
  absl::Duration faults_end;
};

Scenario NewScenario(uint64_t seed);
// In words.
std::string Describe(const Fault& fault);
std::string Describe(const JobScript& job);

}  // namespace studio::sim
