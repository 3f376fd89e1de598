// Answers to the same prompts before and after training, so that a person sees what changed.
//
//   ASSIGN_OR_RETURN(SampleMaker samples, SampleMaker::Create(job, prepared, model, link));
//   ASSIGN_OR_RETURN(std::vector<v1::Sample> answers, samples.Make(step, stopped));   // sent to the link as well
//
// The model and the link outlive it. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"
#include "proto/studio/v1/state.pb.h"
#include "worker/data/prepare.h"
#include "worker/data/tokenizer.h"
#include "worker/trainer/agent_link/rank_link.h"
#include "worker/trainer/model/causal_lm.h"

namespace studio {

class SampleMaker {
 public:
  static absl::StatusOr<SampleMaker> Create(const v1::Job& job, const PreparedData& data, CausalLm& model,
                                            RankLink& link);

  // None where the job wants none. Cancelled once `stopped` says so (asked before each token).
  absl::StatusOr<std::vector<v1::Sample>> Make(int64_t step, const std::function<bool()>& stopped);

 private:
  SampleMaker(const v1::Job& job, CausalLm& model, RankLink& link) : job_(job), model_(model), link_(link) {}

  absl::StatusOr<std::string> Answer(const SamplePrompt& prompt, uint64_t stream, const std::function<bool()>& stopped);

  const v1::Job& job_;
  CausalLm& model_;
  RankLink& link_;
  std::vector<SamplePrompt> prompts_;
  std::vector<uint32_t> stop_tokens_;
  // Only where there are prompts.
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace studio
