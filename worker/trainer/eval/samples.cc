#include "worker/trainer/eval/samples.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/trainer/generate/generate.h"
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

absl::StatusOr<std::string> SampleMaker::Answer(const SamplePrompt& prompt, uint64_t stream,
                                                const std::function<bool()>& stopped) {
  const v1::Prediction& prediction = job_.prediction();
  const int64_t room = model_.architecture().max_positions - static_cast<int64_t>(prompt.tokens.size());
  if (room <= 0) {
    link_.Send(NoteEvent(absl::StrCat("no sample: the prompt \"", prompt.prompt, "\" has ", prompt.tokens.size(),
                                      " tokens, the model's context ", model_.architecture().max_positions)));
    return std::string();
  }
  GenerateOptions options;
  options.max_new_tokens = std::min<int64_t>(prediction.max_length_inference(), room);
  options.stop_tokens = {stop_tokens_.begin(), stop_tokens_.end()};
  options.do_sample = prediction.do_sample();
  options.temperature = prediction.temperature();
  options.top_k = prediction.top_k();
  options.top_p = prediction.top_p();
  options.repetition_penalty = prediction.repetition_penalty();
  options.seed = job_.environment().seed();
  options.stream = stream;
  options.stopped = stopped;
  ASSIGN_OR_RETURN(const std::vector<int64_t> tokens, CatchTorch([&] {
                     return Generate(model_, {prompt.tokens.begin(), prompt.tokens.end()}, options);
                   }));
  if (stopped()) return absl::CancelledError("stopped while generating samples");
  return tokenizer_->Decode(std::vector<uint32_t>(tokens.begin(), tokens.end()));
}

absl::StatusOr<std::vector<v1::Sample>> SampleMaker::Make(int64_t step, const std::function<bool()>& stopped) {
  std::vector<v1::Sample> samples;
  for (const SamplePrompt& prompt : prompts_) {
    v1::Sample sample;
    sample.set_step(step);
    sample.set_prompt(prompt.prompt);
    ASSIGN_OR_RETURN(*sample.mutable_answer(), Answer(prompt, samples.size(), stopped));
    v1::TrainerUp event;
    *event.mutable_sample() = sample;
    link_.Send(std::move(event));
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace studio
