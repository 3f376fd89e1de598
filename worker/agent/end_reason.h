// What a rank's end means: from its own last words, its exit code, or the signal that killed it. Pure.
//
//   RankVerdict verdict = JudgeEnd({.end = {0, SIGKILL}, .cgroup_kills_rose = true}, "rank 0");   // HOST_OOM
//
// Exit codes: 0 finished or stopped, 2 usage, others in common/memory/process_end.h, where out of memory is judged.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/env/process.h"
#include "common/memory/kernel_kills.h"
#include "proto/studio/v1/trainer.pb.h"

namespace studio::worker {

// All that is known of a process that ended.
struct RankEvidence {
  int rank = 0;
  ProcessEnd end;
  std::optional<v1::Finished> finished;
  std::optional<v1::Failure> failure;
  // As in common/memory/process_end.h.
  bool cgroup_kills_rose = false;
  std::optional<KernelKill> kernel_kill;
  int64_t host_memory_bytes = 0;
  // The last lines that it printed, for people.
  std::string last_words;
};

struct RankVerdict {
  // REASON_UNSPECIFIED: it ended well.
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  std::string message;
  // It only lost the other ranks: one of them is the cause.
  bool lost_peers = false;
};

// `what` names the process for people: "rank 0", "data preparation".
RankVerdict JudgeEnd(const RankEvidence& evidence, const std::string& what);

}  // namespace studio::worker
