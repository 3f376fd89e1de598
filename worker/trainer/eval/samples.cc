#include "worker/trainer/eval/samples.h"

#include <ATen/ops/argmax.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <string>
#include <utility>

#include "common/status/macros.h"
#include "worker/trainer/model/torch_status.h"

namespace studio {

absl::StatusOr<SampleMaker> SampleMaker::Create(const v1::Job& job, const PreparedData& data, CausalLm& model,
                                                RankLink& link) {
  SampleMaker maker(job, model, link);
  if (data.sample_prompts.empty() || !job.prediction().samples()) return maker;
  maker.prompts_ = data.sample_prompts;
  maker.stop_tokens_ = data.stop_tokens;
  ASSIGN_OR_RETURN(maker.tokenizer_, Tokenizer::Load(job.architecture().llm_backbone()));
  return maker;
}

absl::StatusOr<std::vector<v1::Sample>> SampleMaker::Make(int64_t step, const std::function<bool()>& stopped) {
  std::vector<v1::Sample> samples;
  for (const SamplePrompt& prompt : prompts_) {
    if (stopped()) return absl::CancelledError("stopped while generating samples");
    ASSIGN_OR_RETURN(const std::vector<uint32_t> answer, CatchTorch([&] {
                       std::vector<uint32_t> out;
                       KvCache cache =
                           model_.MakeCache(prompt.tokens.size() + job_.prediction().max_length_inference());
                       at::Tensor logits = model_.Extend(
                           at::tensor(std::vector<int64_t>(prompt.tokens.begin(), prompt.tokens.end())), cache);
                       while (static_cast<int>(out.size()) < job_.prediction().max_length_inference()) {
                         const int64_t next = logits.argmax().item<int64_t>();
                         if (std::find(stop_tokens_.begin(), stop_tokens_.end(), next) != stop_tokens_.end()) break;
                         out.push_back(next);
                         logits = model_.Extend(at::tensor({next}), cache);
                       }
                       return out;
                     }));
    v1::Sample sample;
    sample.set_step(step);
    sample.set_prompt(prompt.prompt);
    ASSIGN_OR_RETURN(*sample.mutable_answer(), tokenizer_->Decode(answer));
    v1::TrainerUp event;
    *event.mutable_sample() = sample;
    link_.Send(std::move(event));
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace studio
