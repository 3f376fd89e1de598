// JsonToYaml of print.h.
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "studioctl/print.h"

namespace studio::ctl {
namespace {

using Json = nlohmann::ordered_json;

// Plain only where no YAML reader could see anything but this string: letters first, then letters, digits and a few
// signs, and none of the words that stand for something else.
bool IsPlain(const std::string& text) {
  if (text.empty() || text.size() > 200 || !absl::ascii_isalpha(text[0])) return false;
  for (const char c : text) {
    if (!absl::ascii_isalnum(c) && c != '_' && c != '-' && c != '.' && c != '/') return false;
  }
  const std::string lower = absl::AsciiStrToLower(text);
  for (const char* word : {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"}) {
    if (lower == word) return false;
  }
  return true;
}

std::string Scalar(const Json& value) {
  // YAML 1.2 is a superset of JSON: a JSON string is a YAML string.
  if (value.is_string() && IsPlain(value.get<std::string>())) return value.get<std::string>();
  return value.dump();
}

void Print(const Json& value, int indent, std::string& text);

// After "key:" or "-": on the same line for scalars, below for the rest.
void PrintValue(const Json& value, int indent, std::string& text) {
  if (value.is_structured() && !value.empty()) {
    text += "\n";
    Print(value, indent, text);
  } else {
    absl::StrAppend(&text, " ", Scalar(value), "\n");
  }
}

void Print(const Json& value, int indent, std::string& text) {
  if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      absl::StrAppend(&text, std::string(indent, ' '), Scalar(key), ":");
      PrintValue(item, indent + 2, text);
    }
  } else {
    for (const Json& item : value) {
      absl::StrAppend(&text, std::string(indent, ' '), "-");
      PrintValue(item, indent + 2, text);
    }
  }
}

}  // namespace

std::string JsonToYaml(const std::string& json) {
  const Json value = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!value.is_structured() || value.empty()) return value.dump() + "\n";
  std::string text;
  Print(value, 0, text);
  return text;
}

}  // namespace studio::ctl
