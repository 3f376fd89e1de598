// JSON whose objects keep their order, read without exceptions.
//
//   ASSIGN_OR_RETURN(Json row, ParseJson(line, "data.jsonl:7"));
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace studio {

// Order is kept because templates write tool arguments out again.
using Json = nlohmann::ordered_json;

// InvalidArgument with what is wrong and where. `where` begins the message: a file, or "file:line".
absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view where);

// An empty object where there is no such file; InvalidArgument where it does not hold an object.
absl::StatusOr<Json> ReadJsonObjectIfThere(const std::string& path);

// "a number", "a list", …: for messages.
std::string KindOf(const Json& value);

// The value as text, cut to what fits a message.
std::string Shown(const Json& value);

// The value as text; bytes that are not UTF-8 become U+FFFD.
std::string Dump(const Json& value);

}  // namespace studio
