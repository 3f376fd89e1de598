// Prompts for the samples before and after training, and the tokens that end an answer.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"
#include "worker/data/chat_template.h"
#include "worker/data/conversation.h"
#include "worker/data/prepare.h"
#include "worker/data/tokenizer.h"

namespace studio {

// A conversation as prompts.json keeps it: {"messages" (without the last answer), "tools", "answer"}.
Json PromptRecord(const Conversation& talk);

// The job's own prompts, else the first of `records` (prompts.json); none where the job wants no samples.
absl::StatusOr<std::vector<SamplePrompt>> MakeSamplePrompts(const v1::Prediction& prediction, const Json& records,
                                                            const ChatTemplate& chat, const Tokenizer& tokenizer);

// The model's end of text, and the special token with which the template ends an answer. Sorted.
std::vector<uint32_t> StopTokens(const ChatTemplate& chat, const Tokenizer& tokenizer);

}  // namespace studio
