// Message lists of a row, in OpenAI's form whichever they came in.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/data/json_file.h"
#include "worker/data/row_reader.h"

namespace studio {

// The column's messages as [{"role", "content", …}]: ShareGPT's {"from", "value"} are renamed (human → user, gpt →
// assistant), a list of text parts becomes one text, and a list written as text (CSV) is parsed. Empty where the column
// is missing or null. InvalidArgument names file, line, column and message.
absl::StatusOr<Json> ParseMessageList(const Row& row, const std::string& column);

// An assistant's message with text or tool calls, unless its "weight" is 0 (OpenAI's mark for "not to be learnt").
bool IsAnswer(const Json& message);

}  // namespace studio
