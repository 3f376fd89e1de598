#include "worker/data/example_maker.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio {
namespace {

constexpr char kRefused[] = "the chat template refused the conversation";
constexpr char kUnstable[] = "the chat template rewrites what comes before an answer";
constexpr char kNoLabel[] = "no label left after truncation";

Json FirstMessages(const Json& messages, size_t count) {
  Json first = Json::array();
  for (size_t i = 0; i < count; ++i) first.push_back(messages[i]);
  return first;
}

// SentencePiece-like tokenizers put a mark before the first word of a text: their ids cannot be joined piece by piece.
bool JoinsFreely(const Tokenizer& tokenizer) {
  auto whole = tokenizer.Encode("a\nb"), first = tokenizer.Encode("a"), rest = tokenizer.Encode("\nb");
  if (!whole.ok() || !first.ok() || !rest.ok()) return false;
  first->insert(first->end(), rest->begin(), rest->end());
  return *whole == *first;
}

}  // namespace

ExampleMaker::ExampleMaker(const ChatTemplate& chat, const Tokenizer& tokenizer, ExampleOptions options)
    : chat_(chat), tokenizer_(tokenizer), options_(options), joins_freely_(JoinsFreely(tokenizer)) {}

absl::StatusOr<ExampleMaker::Answer> ExampleMaker::RenderAnswer(const Conversation& talk, size_t index,
                                                                MadeExamples* made) const {
  Answer answer;
  ASSIGN_OR_RETURN(answer.text, chat_.Render(FirstMessages(talk.messages, index + 1), talk.tools, false));
  const Json before = FirstMessages(talk.messages, index);
  absl::StatusOr<std::string> prompt = chat_.Render(before, talk.tools, true);
  // Some templates cannot render an empty conversation; then all of the answer's text is the answer.
  if (!prompt.ok() && index == 0) prompt = "";
  RETURN_IF_ERROR(prompt.status());
  if (!absl::StartsWith(answer.text, *prompt)) {
    made->quirks |= kOddGenerationPrompt;
    ASSIGN_OR_RETURN(*prompt, chat_.Render(before, talk.tools, false));
    if (!absl::StartsWith(answer.text, *prompt)) return absl::FailedPreconditionError(kUnstable);
  }
  answer.span = {prompt->size(), answer.text.size()};
  const Json& content = talk.messages[index]["content"];
  if (content.is_string() && absl::EndsWith(answer.text, content.get_ref<const std::string&>())) {
    made->quirks |= kNoEndOfTurn;
  }
  return answer;
}

absl::StatusOr<std::vector<ExampleMaker::Marked>> ExampleMaker::Mark(const Conversation& talk,
                                                                     MadeExamples* made) const {
  if (!options_.mask_prompt_labels) {
    ASSIGN_OR_RETURN(std::string text, chat_.Render(talk.messages, talk.tools, false));
    const Span all{0, text.size()};
    return std::vector<Marked>{{std::move(text), {all}}};
  }
  std::vector<Answer> answers;
  const size_t first = options_.only_last_answer ? talk.answers.size() - 1 : 0;
  for (size_t i = first; i < talk.answers.size(); ++i) {
    ASSIGN_OR_RETURN(Answer answer, RenderAnswer(talk, talk.answers[i], made));
    answers.push_back(std::move(answer));
  }
  const std::string& full = answers.back().text;
  bool grows = true;
  for (size_t i = 0; i < answers.size(); ++i) {
    grows = grows && absl::StartsWith(full, answers[i].text) &&
            (i == 0 || answers[i].span.begin >= answers[i - 1].span.end);
  }
  std::vector<Marked> marked;
  if (grows) {
    marked.push_back({full, {}});
    for (const Answer& answer : answers) marked.back().spans.push_back(answer.span);
  } else {
    made->quirks |= kRewritesHistory;
    for (Answer& answer : answers) marked.push_back({std::move(answer.text), {answer.span}});
  }
  return marked;
}

// Prompt and answer apart, as they are at inference: no token straddles the place where the model takes over.
absl::Status ExampleMaker::TokenizePieces(const Marked& marked, Example* example) const {
  size_t at = 0;
  auto append = [&](size_t end, uint8_t learn) -> absl::Status {
    if (end == at) return absl::OkStatus();
    ASSIGN_OR_RETURN(std::vector<uint32_t> ids, tokenizer_.Encode(absl::string_view(marked.text).substr(at, end - at)));
    example->tokens.insert(example->tokens.end(), ids.begin(), ids.end());
    example->learn.resize(example->tokens.size(), learn);
    at = end;
    return absl::OkStatus();
  };
  for (const Span& span : marked.spans) {
    RETURN_IF_ERROR(append(span.begin, 0));
    RETURN_IF_ERROR(append(span.end, 1));
  }
  return append(marked.text.size(), 0);
}

// The text at once; an answer begins at the first token that its prompt alone would not have given.
absl::Status ExampleMaker::TokenizeWhole(const Marked& marked, Example* example) const {
  ASSIGN_OR_RETURN(example->tokens, tokenizer_.Encode(marked.text));
  const std::vector<uint32_t>& tokens = example->tokens;
  example->learn.assign(tokens.size(), 0);
  auto place = [&](size_t byte) -> absl::StatusOr<size_t> {
    if (byte == marked.text.size()) return tokens.size();
    ASSIGN_OR_RETURN(std::vector<uint32_t> head, tokenizer_.Encode(absl::string_view(marked.text).substr(0, byte)));
    auto differs = std::mismatch(tokens.begin(), tokens.end(), head.begin(), head.end()).first;
    return static_cast<size_t>(differs - tokens.begin());
  };
  for (const Span& span : marked.spans) {
    ASSIGN_OR_RETURN(size_t begin, place(span.begin));
    ASSIGN_OR_RETURN(size_t end, place(span.end));
    for (size_t i = begin; i < end; ++i) example->learn[i] = 1;
  }
  return absl::OkStatus();
}

absl::Status ExampleMaker::Tokenize(const Marked& marked, Example* example) const {
  RETURN_IF_ERROR(joins_freely_ ? TokenizePieces(marked, example) : TokenizeWhole(marked, example));
  for (uint32_t token : example->tokens) {
    if (token < options_.vocab_size) continue;
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer gives token ", token,
                                                   ", but config.json's vocab_size is ", options_.vocab_size,
                                                   ": tokenizer.json belongs to another model"));
  }
  if (!example->learn.empty()) example->learn[0] = 0;  // nothing comes before it
  return absl::OkStatus();
}

absl::StatusOr<MadeExamples> ExampleMaker::Make(const Conversation& talk) const {
  MadeExamples made;
  absl::StatusOr<std::vector<Marked>> texts = Mark(talk, &made);
  if (!texts.ok()) {  // rendering is all that can fail here
    made.dropped = absl::IsFailedPrecondition(texts.status()) ? kUnstable : kRefused;
    made.dropped_detail = std::string(texts.status().message());
    return made;
  }
  for (const Marked& marked : *texts) {
    Example example;
    RETURN_IF_ERROR(Tokenize(marked, &example));
    const size_t limit = static_cast<size_t>(options_.max_length);
    const bool cut = example.tokens.size() > limit;
    if (cut) {
      example.tokens.resize(limit);
      example.learn.resize(limit);
    }
    if (std::find(example.learn.begin(), example.learn.end(), 1) == example.learn.end()) {
      made.dropped = kNoLabel;
      continue;
    }
    made.truncated += cut;
    made.examples.push_back(std::move(example));
  }
  return made;
}

}  // namespace studio
