// Turns a job's data files into token shards, once: the folder is named by the hash of all that decides its contents,
// so that ranks, jobs and restarts that ask for the same thing share it.
//
//   ASSIGN_OR_RETURN(PreparedData data, Prepare(job, "/var/lib/studio/data", [](const PrepareProgress& p) { … }));
//   for (const TokenShard& shard : data.train) …
//
// The job has its defaults filled, and its paths are local to this machine. Safe to call from several processes at once
// for the same folder: one prepares, the others wait and read. The result does not depend on the number of threads.
//
// InvalidArgument (BAD_INPUT): the data, the tokenizer, the template or a setting cannot be right, the message names
// file, line and value. NotFound: a file is missing. ResourceExhausted: the disk is full.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"
#include "proto/studio/v1/state.pb.h"
#include "worker/data/token_shard.h"

namespace studio {

// Rows are counted once before they are tokenised.
struct PrepareProgress {
  int64_t prepared_rows = 0;
  int64_t total_rows = 0;
};

// Called from the calling thread, a few times a second at most.
using PrepareProgressFn = std::function<void(const PrepareProgress&)>;

// A conversation up to an answer, ready to be generated from.
struct SamplePrompt {
  // The last user message, for people.
  std::string prompt;
  // The answer in the data. Empty for the prompts of `prediction.sample_prompts`.
  std::string reference;
  // The rendered conversation with the generation prompt, tokenised.
  std::vector<uint32_t> tokens;
};

struct PreparedData {
  // SHA-256 that names the folder, and the folder.
  std::string key;
  std::string folder;
  // The folder was there already.
  bool reused = false;
  // In order; row numbers count through all shards. At least one training row.
  std::vector<TokenShard> train;
  // Empty where no rows are held out.
  std::vector<TokenShard> validation;
  v1::DataReport report;
  // `prediction.sample_prompts` where the job has some, else the first held-out row's; empty where samples are off.
  std::vector<SamplePrompt> sample_prompts;
  // Generation ends at any of these tokens: the model's end of text and of turn.
  std::vector<uint32_t> stop_tokens;
};

absl::StatusOr<PreparedData> Prepare(const v1::Job& job, const std::string& data_dir,
                                     const PrepareProgressFn& progress = nullptr);

}  // namespace studio
