#include "worker/data/sample_prompts.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio {
namespace {

Json Message(absl::string_view role, absl::string_view content) {
  return {{"role", std::string(role)}, {"content", std::string(content)}};
}

std::string ContentOf(const Json& message) {
  const auto content = message.find("content");
  return content != message.end() && content->is_string() ? content->get<std::string>() : "";
}

absl::StatusOr<SamplePrompt> MakePrompt(const Json& messages, const Json& tools, const ChatTemplate& chat,
                                        const Tokenizer& tokenizer) {
  SamplePrompt sample;
  for (const Json& message : messages) {
    if (message["role"] == "user") sample.prompt = ContentOf(message);
  }
  ASSIGN_OR_RETURN(std::string text, chat.Render(messages, tools, true));
  ASSIGN_OR_RETURN(sample.tokens, tokenizer.Encode(text));
  return sample;
}

}  // namespace

Json PromptRecord(const Conversation& talk) {
  Json before = talk.messages;
  before.erase(before.end() - 1);
  return {{"messages", std::move(before)}, {"tools", talk.tools}, {"answer", ContentOf(talk.messages.back())}};
}

absl::StatusOr<std::vector<SamplePrompt>> MakeSamplePrompts(const v1::Prediction& prediction, const Json& records,
                                                            const ChatTemplate& chat, const Tokenizer& tokenizer) {
  std::vector<SamplePrompt> samples;
  if (prediction.has_samples() && !prediction.samples()) return samples;
  for (const std::string& prompt : prediction.sample_prompts()) {
    absl::StatusOr<SamplePrompt> sample = MakePrompt(Json::array({Message("user", prompt)}), Json(), chat, tokenizer);
    if (!sample.ok()) {
      return absl::Status(sample.status().code(),
                          absl::StrCat("prediction.sample_prompts \"", prompt, "\": ", sample.status().message()));
    }
    samples.push_back(*std::move(sample));
  }
  if (samples.empty() && records.is_array() && !records.empty()) {
    const Json& record = records.front();
    ASSIGN_OR_RETURN(SamplePrompt sample, MakePrompt(record.at("messages"), record.at("tools"), chat, tokenizer));
    sample.reference = record.at("answer").get<std::string>();
    samples.push_back(std::move(sample));
  }
  return samples;
}

std::vector<uint32_t> StopTokens(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  std::vector<uint32_t> stops = tokenizer.stop_ids();
  constexpr absl::string_view kAnswer = "studio-answer";
  const auto text = chat.Render(Json::array({Message("user", "a"), Message("assistant", kAnswer)}), Json(), false);
  const size_t at = text.ok() ? text->rfind(std::string(kAnswer)) : std::string::npos;
  if (at != std::string::npos) {
    const auto tail = tokenizer.Encode(absl::string_view(*text).substr(at + kAnswer.size()));
    // A special token has a text, but none once special tokens are left out.
    if (tail.ok() && !tail->empty()) {
      const auto shown = tokenizer.Decode({tail->data(), 1}, true), whole = tokenizer.Decode({tail->data(), 1}, false);
      if (shown.ok() && whole.ok() && shown->empty() && !whole->empty()) stops.push_back(tail->front());
    }
  }
  std::sort(stops.begin(), stops.end());
  stops.erase(std::unique(stops.begin(), stops.end()), stops.end());
  return stops;
}

}  // namespace studio
