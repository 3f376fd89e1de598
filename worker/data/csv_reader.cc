#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/data/row_reader.h"

namespace studio {
namespace {

class CsvReader : public RowReader {
 public:
  using RowReader::RowReader;

  absl::StatusOr<bool> Next(Row* row) override {
    if (header_.empty()) RETURN_IF_ERROR(ReadHeader());
    if (header_.empty()) return false;
    ASSIGN_OR_RETURN(bool more, ReadRecord());
    if (!more) return false;
    row->where = input_->At(record_line_);
    if (record_.size() != header_.size()) {
      return absl::InvalidArgumentError(absl::StrCat(row->where, ": ", record_.size(),
                                                     " fields where the header names ", header_.size(),
                                                     " columns; quote fields that hold commas"));
    }
    row->fields = Json::object();
    for (size_t i = 0; i < header_.size(); ++i) row->fields[header_[i]] = std::move(record_[i]);
    return true;
  }

 private:
  absl::Status ReadHeader() {
    ASSIGN_OR_RETURN(bool more, ReadRecord());
    if (!more) return absl::OkStatus();
    for (size_t i = 0; i < record_.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (record_[i] != record_[j]) continue;
        return absl::InvalidArgumentError(
            absl::StrCat(input_->At(record_line_), ": the header names column \"", record_[i], "\" twice"));
      }
    }
    header_ = std::move(record_);
    return absl::OkStatus();
  }

  static bool EndsRecord(int c) { return c == '\n' || c == '\r' || c == TextInput::kEnd; }

  // A record into record_, its first line into record_line_. False at the end of the file.
  absl::StatusOr<bool> ReadRecord() {
    while (input_->Peek() == '\n' || input_->Peek() == '\r') input_->Get();
    RETURN_IF_ERROR(input_->status());
    if (input_->Peek() == TextInput::kEnd) return false;
    record_.clear();
    raw_.clear();
    record_line_ = input_->line();
    record_offset_ = input_->offset();
    for (;;) {
      std::string& field = record_.emplace_back();
      if (input_->Peek() == '"') {
        RETURN_IF_ERROR(ReadQuoted(&field));
      } else {
        while (input_->Peek() != ',' && !EndsRecord(input_->Peek())) RETURN_IF_ERROR(Take(&field));
      }
      if (input_->Peek() != ',') break;
      Get();
    }
    RETURN_IF_ERROR(input_->status());
    RETURN_IF_ERROR(input_->CheckUtf8(raw_, record_line_, record_offset_));
    if (input_->Get() == '\r' && input_->Peek() == '\n') input_->Get();
    return true;
  }

  absl::Status ReadQuoted(std::string* field) {
    const int64_t line = input_->line();
    Get();
    for (;;) {
      const int c = input_->Peek();
      if (c == TextInput::kEnd) {
        RETURN_IF_ERROR(input_->status());
        return absl::InvalidArgumentError(
            absl::StrCat(input_->At(line), ": the quote that opens in field ", record_.size(), " never closes"));
      }
      if (c != '"') {
        RETURN_IF_ERROR(Take(field));
        continue;
      }
      Get();
      if (input_->Peek() != '"') break;
      RETURN_IF_ERROR(Take(field));
    }
    if (input_->Peek() == ',' || EndsRecord(input_->Peek())) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(input_->At(input_->line()),
                                                   ": text follows the closing quote of field ", record_.size(),
                                                   "; a quote inside quotes is written twice"));
  }

  char Get() {
    raw_.push_back(static_cast<char>(input_->Get()));
    return raw_.back();
  }

  absl::Status Take(std::string* field) {
    field->push_back(Get());
    if (raw_.size() <= TextInput::kMaxRowBytes) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(input_->At(record_line_), ": a row of more than ",
                                                   TextInput::kMaxRowBytes, " bytes; is a quote open?"));
  }

  std::vector<std::string> header_;
  std::vector<std::string> record_;
  // The record as it stands in the file, for offsets.
  std::string raw_;
  int64_t record_line_ = 0;
  int64_t record_offset_ = 0;
};

}  // namespace

std::unique_ptr<RowReader> NewCsvReader(std::unique_ptr<TextInput> input) {
  return std::make_unique<CsvReader>(std::move(input));
}

}  // namespace studio
