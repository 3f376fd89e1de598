#include "worker/data/json_file.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/data/file_io.h"

namespace studio {
namespace {

constexpr int64_t kMaxBytes = int64_t{64} << 20;
// Below serde_json's 128, which reads what we write to it, with the levels around a row's.
constexpr int kMaxDepth = 100;

// The library's messages begin with "[json.exception.parse_error.101] parse error at line 1, column 5: ".
std::string Reason(const std::string& what) {
  const size_t bracket = what.find("] ");
  return bracket == std::string::npos ? what : what.substr(bracket + 2);
}

// Copying and writing values recurse, so that what a stranger nests is bounded before anything else.
bool NestedTooDeep(absl::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<Json> ParseJson(absl::string_view text, absl::string_view where) {
  if (NestedTooDeep(text)) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": values nested more than ", kMaxDepth, " deep"));
  }
  // The library's error texts are worth the one place that catches.
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": not JSON: ", Reason(error.what())));
  }
}

absl::StatusOr<Json> ReadJsonObjectIfThere(const std::string& path) {
  absl::StatusOr<std::string> text = dataprep::ReadFile(path, kMaxBytes);
  if (absl::IsNotFound(text.status())) return Json::object();
  RETURN_IF_ERROR(text.status());
  ASSIGN_OR_RETURN(Json json, ParseJson(*text, path));
  if (!json.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": holds ", KindOf(json), " where an object belongs"));
  }
  return json;
}

std::string KindOf(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "true or false";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a text";
  if (value.is_array()) return "a list";
  return "an object";
}

std::string Dump(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string Shown(const Json& value) {
  constexpr size_t kMaxShown = 80;
  std::string text = Dump(value);
  if (text.size() <= kMaxShown) return text;
  size_t end = kMaxShown;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return absl::StrCat(text.substr(0, end), "…");
}

}  // namespace studio
