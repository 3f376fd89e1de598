// What a rank's end means: from its own last words, its exit code, or the signal that killed it. Pure.
//
//   RankEnd end = JudgeEnd({.end = {0, SIGKILL}, .oom_kills_rose = true});   // HOST_OOM
//
// Exit codes: 0 finished or stopped, 2 usage, 65 bad input, 70 crash, 71 device out of memory, 72 host out of memory.
#pragma once

#include <optional>
#include <string>

#include "common/env/process.h"
#include "proto/studio/v1/trainer.pb.h"

namespace studio::worker {

// All that is known of a process that ended.
struct RankEvidence {
  int rank = 0;
  ProcessEnd end;
  std::optional<v1::Finished> finished;
  std::optional<v1::Failure> failure;
  // The cgroup's count of kills for memory rose while the process ran.
  bool oom_kills_rose = false;
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
