// A row as a conversation: what both row formats become.
//
//   RowFormat format(job.dataset());
//   RETURN_IF_ERROR(format.Begin(first_row));
//   ASSIGN_OR_RETURN(std::optional<Conversation> talk, format.Parse(row));   // nothing: no answer in it
//   RETURN_IF_ERROR(format.CheckColumns());                                  // after the last row
//
// COLUMNS takes prompt and answer from columns (Alpaca's by default); MESSAGES takes a list of OpenAI's
// {"role", "content"} or ShareGPT's {"from", "value"}.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"
#include "worker/data/json_file.h"
#include "worker/data/row_reader.h"

namespace studio {

struct Conversation {
  // A list of {"role", "content", …} with OpenAI's role names. It ends with the last answer.
  Json messages = Json::array();
  // The row's "tools", null where it has none.
  Json tools;
  // Which messages are answers to learn, rising. Not empty.
  std::vector<size_t> answers;
};

class RowFormat {
 public:
  explicit RowFormat(const v1::Dataset& dataset);

  // Decides what FORMAT_AUTO and an empty messages_column mean. Before Parse, with the first row.
  absl::Status Begin(const Row& first);

  // Nothing where the row has no answer. InvalidArgument, naming file, line and column, where a value is of a kind that
  // cannot be right. Thread-safe, unless `seen` is shared: the columns found are added to it.
  absl::StatusOr<std::optional<Conversation>> Parse(const Row& row, std::set<std::string>* seen = nullptr) const;

  // InvalidArgument where a column that the job names was in no row: a misspelt name must not look like empty data.
  absl::Status CheckColumns(const std::set<std::string>& seen) const;

  // Where answers are looked for, for messages: `column "output"`.
  std::string AnswerPlace() const;

 private:
  absl::StatusOr<std::optional<Conversation>> ParseColumns(const Row& row) const;
  absl::StatusOr<std::optional<Conversation>> ParseMessages(const Row& row) const;

  v1::Dataset::Format format_;
  std::string system_column_;
  bool system_required_;
  std::vector<std::string> prompt_columns_;
  bool prompts_required_;
  std::string separator_;
  std::string answer_column_;
  std::string messages_column_;
  std::string first_where_;
};

}  // namespace studio
