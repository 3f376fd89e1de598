// What a run came to, for programs: <out_dir>/summary.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/studio/v1/state.pb.h"

namespace studio {

struct RunSummary {
  // It was told to stop before the end.
  bool stopped = false;
  int64_t steps = 0;
  int64_t total_steps = 0;
  // losses[i]: of optimizer step first_step + i (0-based). A resumed run has only its own.
  int64_t first_step = 0;
  std::vector<double> losses;
  // Of the same steps: from choosing the rows to the loss that was read, and the tokens of all ranks.
  std::vector<double> step_seconds;
  std::vector<int64_t> step_tokens;
  std::optional<v1::Evaluation> before, after;
  std::vector<v1::Evaluation> evaluations;
  std::vector<v1::Sample> samples;
  double tokens_per_second = 0;
  int64_t tokens_seen = 0;
  int64_t peak_memory_bytes = 0;
  double seconds = 0;
  std::string device;
  // ADAMW or ADAMW8BIT, where it was left to auto too.
  std::string optimizer;
  // Which schedule made the gradients, and why.
  std::string step;
  // Files under out_dir/result; empty where it stopped.
  v1::Artifact result;
};

// Numbers with all their digits: equal text means equal bits.
std::string SummaryJson(const RunSummary& summary);

}  // namespace studio
