#include "worker/data/conversation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status/macros.h"
#include "worker/data/message_list.h"

namespace studio {
namespace {

// Text of a column; numbers and truth values as JSON writes them, missing and null as "".
absl::StatusOr<std::string> TextOf(const Row& row, const std::string& column) {
  auto found = row.fields.find(column);
  if (found == row.fields.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number() || found->is_boolean()) return Dump(*found);
  return absl::InvalidArgumentError(absl::StrCat(row.where, ": column \"", column, "\" holds ", KindOf(*found), " (",
                                                 Shown(*found), ") where a text belongs"));
}

bool IsBlank(absl::string_view text) { return absl::StripAsciiWhitespace(text).empty(); }

Json Message(absl::string_view role, std::string content) {
  return {{"role", std::string(role)}, {"content", std::move(content)}};
}

}  // namespace

RowFormat::RowFormat(const v1::Dataset& dataset)
    : format_(dataset.format()),
      system_column_(dataset.has_system_column() ? dataset.system_column() : "system"),
      system_required_(system_column_ != "system" && !system_column_.empty()),
      prompt_columns_(dataset.prompt_column().begin(), dataset.prompt_column().end()),
      prompts_required_(!prompt_columns_.empty()),
      separator_(dataset.has_prompt_column_separator() ? dataset.prompt_column_separator() : "\n\n"),
      answer_column_(dataset.has_answer_column() ? dataset.answer_column() : "output"),
      messages_column_(dataset.messages_column()) {
  if (prompt_columns_.empty()) prompt_columns_ = {"instruction", "input"};
}

absl::Status RowFormat::Begin(const Row& first) {
  first_where_ = first.where;
  const bool named = !messages_column_.empty();
  if (!named) messages_column_ = first.fields.contains("messages") ? "messages" : "conversations";
  if (format_ == v1::Dataset::FORMAT_AUTO) {
    const bool has_messages = first.fields.contains(messages_column_);
    format_ = has_messages || named ? v1::Dataset::MESSAGES : v1::Dataset::COLUMNS;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<Conversation>> RowFormat::Parse(const Row& row, std::set<std::string>* seen) const {
  if (seen != nullptr) {
    for (const auto& [column, value] : row.fields.items()) seen->insert(column);
  }
  return format_ == v1::Dataset::MESSAGES ? ParseMessages(row) : ParseColumns(row);
}

absl::StatusOr<std::optional<Conversation>> RowFormat::ParseColumns(const Row& row) const {
  ASSIGN_OR_RETURN(std::string system, TextOf(row, system_column_));
  std::vector<std::string> prompts;
  for (const std::string& column : prompt_columns_) {
    ASSIGN_OR_RETURN(std::string prompt, TextOf(row, column));
    if (!IsBlank(prompt)) prompts.push_back(std::move(prompt));
  }
  ASSIGN_OR_RETURN(std::string answer, TextOf(row, answer_column_));
  if (IsBlank(answer)) return std::nullopt;

  Conversation talk;
  if (!IsBlank(system)) talk.messages.push_back(Message("system", std::move(system)));
  talk.messages.push_back(Message("user", absl::StrJoin(prompts, separator_)));
  talk.messages.push_back(Message("assistant", std::move(answer)));
  talk.answers = {talk.messages.size() - 1};
  return talk;
}

absl::StatusOr<std::optional<Conversation>> RowFormat::ParseMessages(const Row& row) const {
  Conversation talk;
  ASSIGN_OR_RETURN(talk.messages, ParseMessageList(row, messages_column_));
  auto tools = row.fields.find("tools");
  if (tools != row.fields.end() && tools->is_array()) talk.tools = *tools;
  for (size_t i = 0; i < talk.messages.size(); ++i) {
    if (IsAnswer(talk.messages[i])) talk.answers.push_back(i);
  }
  if (talk.answers.empty()) return std::nullopt;
  // Nothing is learnt from what follows the last answer.
  talk.messages.erase(talk.messages.begin() + static_cast<int64_t>(talk.answers.back()) + 1, talk.messages.end());
  return talk;
}

std::string RowFormat::AnswerPlace() const {
  if (format_ == v1::Dataset::COLUMNS) return absl::StrCat("column \"", answer_column_, "\"");
  return absl::StrCat("what the assistant says in column \"", messages_column_, "\"");
}

absl::Status RowFormat::CheckColumns(const std::set<std::string>& seen) const {
  std::string missing;
  if (format_ == v1::Dataset::MESSAGES) {
    if (seen.count(messages_column_) == 0) missing = messages_column_;
  } else {
    bool any_prompt = false;
    for (const std::string& column : prompt_columns_) {
      any_prompt = any_prompt || seen.count(column) > 0;
      if (prompts_required_ && seen.count(column) == 0) missing = column;
    }
    if (!any_prompt) missing = prompt_columns_.front();
    if (system_required_ && seen.count(system_column_) == 0) missing = system_column_;
    if (seen.count(answer_column_) == 0) missing = answer_column_;
  }
  if (missing.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      first_where_, ": no row has a column \"", missing, "\"; the columns are \"", absl::StrJoin(seen, "\", \""),
      "\" (dataset.prompt_column, answer_column, system_column and messages_column name the ones to use)"));
}

}  // namespace studio
