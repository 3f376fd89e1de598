// The JSONL and JSON list readers: both find the text of one object, then parse it.
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/data/row_reader.h"

namespace studio {
namespace {

absl::Status ParseRow(const TextInput& input, absl::string_view text, int64_t line, int64_t offset, Row* row) {
  RETURN_IF_ERROR(input.CheckUtf8(text, line, offset));
  row->where = input.At(line);
  ASSIGN_OR_RETURN(row->fields, ParseJson(text, row->where));
  if (row->fields.is_object()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(row->where, ": holds ", KindOf(row->fields), " where a row, {\"column\": value, …}, belongs"));
}

class JsonlReader : public RowReader {
 public:
  using RowReader::RowReader;

  absl::StatusOr<bool> Next(Row* row) override {
    for (;;) {
      const int64_t line = input_->line(), offset = input_->offset();
      const bool more = input_->GetLine(&text_);
      RETURN_IF_ERROR(input_->status());
      if (!more) return false;
      if (absl::StripAsciiWhitespace(text_).empty()) continue;
      RETURN_IF_ERROR(ParseRow(*input_, text_, line, offset, row));
      return true;
    }
  }

 private:
  std::string text_;
};

class JsonArrayReader : public RowReader {
 public:
  using RowReader::RowReader;

  absl::StatusOr<bool> Next(Row* row) override {
    if (done_) return false;
    const bool first = !begun_;
    input_->SkipWhiteSpace();
    if (first) RETURN_IF_ERROR(Expect('[', "a list of rows, [{…}, …], belongs"));
    begun_ = true;
    input_->SkipWhiteSpace();
    if (input_->Peek() == ']') return End();
    if (!first) RETURN_IF_ERROR(Expect(',', "',' or ']' belongs"));
    input_->SkipWhiteSpace();
    const int64_t line = input_->line(), offset = input_->offset();
    RETURN_IF_ERROR(TakeElement());
    RETURN_IF_ERROR(ParseRow(*input_, text_, line, offset, row));
    return true;
  }

 private:
  absl::Status Expect(char wanted, absl::string_view message) {
    const int c = input_->Peek();
    RETURN_IF_ERROR(input_->status());
    if (c == wanted) {
      input_->Get();
      return absl::OkStatus();
    }
    const std::string found = c == TextInput::kEnd     ? "the end of the file"
                              : absl::ascii_isprint(c) ? absl::StrCat("'", std::string(1, static_cast<char>(c)), "'")
                                                       : absl::StrCat("byte ", c);
    return absl::InvalidArgumentError(
        absl::StrCat(input_->At(input_->line()), ": not a JSON list: ", found, " where ", message));
  }

  absl::StatusOr<bool> End() {
    input_->Get();
    input_->SkipWhiteSpace();
    if (input_->Peek() != TextInput::kEnd) {
      return absl::InvalidArgumentError(absl::StrCat(input_->At(input_->line()), ": text follows the list's ']'"));
    }
    RETURN_IF_ERROR(input_->status());
    done_ = true;
    return false;
  }

  // The text of one value into text_: brackets are counted outside strings; the parser judges the rest.
  absl::Status TakeElement() {
    const int64_t first_line = input_->line();
    text_.clear();
    int64_t depth = 0;
    bool in_string = false, escaped = false;
    for (;;) {
      const int c = input_->Peek();
      if (c == TextInput::kEnd) {
        RETURN_IF_ERROR(input_->status());
        return absl::InvalidArgumentError(
            absl::StrCat(input_->At(first_line), ": the file ends inside the row that begins here"));
      }
      if (!in_string && depth == 0 && (c == ',' || c == ']')) return absl::OkStatus();
      text_.push_back(static_cast<char>(input_->Get()));
      if (text_.size() > TextInput::kMaxRowBytes) {
        return absl::InvalidArgumentError(
            absl::StrCat(input_->At(first_line), ": a row of more than ", TextInput::kMaxRowBytes, " bytes"));
      }
      if (in_string) {
        in_string = escaped || c != '"';
        escaped = !escaped && c == '\\';
      } else if (c == '"') {
        in_string = true;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (c == '}' || c == ']') {
        if (--depth == 0) return absl::OkStatus();
      }
    }
  }

  std::string text_;
  bool begun_ = false;
  bool done_ = false;
};

}  // namespace

std::unique_ptr<RowReader> NewJsonlReader(std::unique_ptr<TextInput> input) {
  return std::make_unique<JsonlReader>(std::move(input));
}

std::unique_ptr<RowReader> NewJsonArrayReader(std::unique_ptr<TextInput> input) {
  return std::make_unique<JsonArrayReader>(std::move(input));
}

}  // namespace studio
