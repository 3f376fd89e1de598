// From a conversation to tokens with the places that are learnt.
//
//   ExampleMaker maker(chat, tokenizer, options);
//   ASSIGN_OR_RETURN(MadeExamples made, maker.Make(conversation));
//
// A learnt answer begins where the template's generation prompt ends, for that is where the model will begin, and ends
// with what the template writes after it (the end of turn). Its place is found by rendering the conversation up to it,
// which holds for any template whose text only grows with the conversation. For the others, see MadeExamples::quirks.
// Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/chat_template.h"
#include "worker/data/conversation.h"
#include "worker/data/tokenizer.h"

namespace studio {

struct Example {
  std::vector<uint32_t> tokens;
  // As long; 1: the token is a label.
  std::vector<uint8_t> learn;
};

// What is unusual about a template, found while using it. Bits.
enum TemplateQuirk : uint32_t {
  // It writes earlier turns differently once later ones follow (it drops their reasoning, say): each answer became an
  // example of its own, with the history as it will look when that answer is asked for.
  kRewritesHistory = 1,
  // Its generation prompt is not how its answers begin: the answer is learnt from where the previous turn ends.
  kOddGenerationPrompt = 2,
  // It writes nothing after an answer: the model does not learn to stop.
  kNoEndOfTurn = 4,
};

struct MadeExamples {
  // Usually one; none where the row was dropped.
  std::vector<Example> examples;
  int64_t truncated = 0;
  // Why nothing, or a part, is missing: a reason for the report, "" where all is there.
  std::string dropped;
  // More of it, for a note: the template's own words.
  std::string dropped_detail;
  uint32_t quirks = 0;
};

struct ExampleOptions {
  bool mask_prompt_labels = true;
  bool only_last_answer = false;
  int64_t max_length = 2048;
  // Ids at or above it are an error.
  int64_t vocab_size = 0;
};

class ExampleMaker {
 public:
  // chat and tokenizer outlive this.
  ExampleMaker(const ChatTemplate& chat, const Tokenizer& tokenizer, ExampleOptions options);

  absl::StatusOr<MadeExamples> Make(const Conversation& talk) const;

 private:
  // Part of a text that is learnt, in bytes.
  struct Span {
    size_t begin;
    size_t end;
  };
  // An answer as it looks when it is the last message.
  struct Answer {
    std::string text;
    Span span;
  };
  struct Marked {
    std::string text;
    std::vector<Span> spans;
  };

  absl::StatusOr<Answer> RenderAnswer(const Conversation& talk, size_t index, MadeExamples* made) const;
  absl::StatusOr<std::vector<Marked>> Mark(const Conversation& talk, MadeExamples* made) const;
  absl::Status Tokenize(const Marked& marked, Example* example) const;
  absl::Status TokenizePieces(const Marked& marked, Example* example) const;
  absl::Status TokenizeWhole(const Marked& marked, Example* example) const;

  const ChatTemplate& chat_;
  const Tokenizer& tokenizer_;
  ExampleOptions options_;
  // The tokenizer treats the start of a text like any other place.
  bool joins_freely_ = false;
};

}  // namespace studio
