#include "worker/data/message_list.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio {
namespace {

constexpr std::pair<const char*, const char*> kRoles[] = {
    {"human", "user"},
    {"gpt", "assistant"},
    {"chatgpt", "assistant"},
    {"model", "assistant"},
    {"bot", "assistant"},
    {"observation", "tool"},
    {"function_response", "tool"},
    {"user", "user"},
    {"assistant", "assistant"},
    {"system", "system"},
    {"tool", "tool"},
};

template <typename... Parts>
absl::Status Bad(const Row& row, const std::string& column, const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(row.where, ": column \"", column, "\": ", parts...));
}

// [{"type": "text", "text": "…"}, …] as one text. Nothing where a part is not text.
bool JoinTextParts(const Json& parts, std::string* text) {
  for (const Json& part : parts) {
    if (!part.is_object() || part.value("type", Json()) != "text") return false;
    auto found = part.find("text");
    if (found == part.end() || !found->is_string()) return false;
    text->append(found->get_ref<const std::string&>());
  }
  return true;
}

absl::Status CheckContent(const Row& row, const std::string& column, size_t number, Json* message) {
  auto content = message->find("content");
  if (content == message->end() || content->is_null()) {
    // An assistant that only calls tools says nothing; templates want the key all the same.
    (*message)["content"] = message->contains("tool_calls") ? Json() : Json("");
    return absl::OkStatus();
  }
  if (content->is_string()) return absl::OkStatus();
  std::string text;
  if (content->is_array() && JoinTextParts(*content, &text)) {
    *content = std::move(text);
    return absl::OkStatus();
  }
  return Bad(row, column, "message ", number, " has ", KindOf(*content), " as content (", Shown(*content),
             ") where a text or a list of text parts belongs");
}

absl::StatusOr<Json> Normalised(const Row& row, const std::string& column, size_t number, const Json& message) {
  if (!message.is_object()) {
    return Bad(row, column, "message ", number, " is ", KindOf(message), " (", Shown(message),
               ") where {\"role\", \"content\"} or {\"from\", \"value\"} belongs");
  }
  Json result = message;
  if (!message.contains("role")) {
    auto from = message.find("from");
    if (from == message.end() || !from->is_string()) {
      return Bad(row, column, "message ", number, " has neither \"role\" nor \"from\": ", Shown(message));
    }
    const std::string name = absl::AsciiStrToLower(from->get<std::string>());
    std::string role;
    for (const auto& [theirs, ours] : kRoles) {
      if (name == theirs) role = ours;
    }
    if (role.empty()) {
      return Bad(row, column, "message ", number, " is from ", Shown(*from),
                 ", which is none of human, gpt, system, tool, user and assistant");
    }
    // Role and content first, as people write them: templates that print a message whole show this order.
    result = {{"role", role}, {"content", message.contains("value") ? message["value"] : Json()}};
    for (const auto& [key, value] : message.items()) {
      if (key != "from" && key != "value") result[key] = value;
    }
  }
  if (!result["role"].is_string()) {
    return Bad(row, column, "message ", number, " has ", KindOf(result["role"]), " as role where a text belongs");
  }
  RETURN_IF_ERROR(CheckContent(row, column, number, &result));
  return result;
}

}  // namespace

absl::StatusOr<Json> ParseMessageList(const Row& row, const std::string& column) {
  auto found = row.fields.find(column);
  if (found == row.fields.end() || found->is_null()) return Json::array();
  Json list = *found;
  if (list.is_string()) {
    const std::string text = list.get<std::string>();
    if (absl::StripAsciiWhitespace(text).empty()) return Json::array();
    ASSIGN_OR_RETURN(list, ParseJson(text, absl::StrCat(row.where, ": column \"", column, "\"")));
  }
  if (!list.is_array()) {
    return Bad(row, column, "holds ", KindOf(list), " (", Shown(list), ") where a list of messages belongs");
  }
  Json messages = Json::array();
  for (size_t i = 0; i < list.size(); ++i) {
    ASSIGN_OR_RETURN(Json message, Normalised(row, column, i + 1, list[i]));
    messages.push_back(std::move(message));
  }
  return messages;
}

bool IsAnswer(const Json& message) {
  if (message["role"] != "assistant") return false;
  auto weight = message.find("weight");
  if (weight != message.end() && weight->is_number() && weight->get<double>() == 0) return false;
  const Json& content = message["content"];
  if (content.is_string() && !absl::StripAsciiWhitespace(content.get_ref<const std::string&>()).empty()) return true;
  auto calls = message.find("tool_calls");
  return calls != message.end() && calls->is_array() && !calls->empty();
}

}  // namespace studio
