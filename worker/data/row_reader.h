// Rows of a data file, one at a time, whatever its format: .jsonl, .json (a list of objects) or .csv.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<RowReader> rows, OpenRows("train.jsonl"));
//   Row row;
//   for (;;) {
//     ASSIGN_OR_RETURN(bool more, rows->Next(&row));
//     if (!more) break;
//     … row.fields["instruction"], row.where …
//   }
//
// Errors are InvalidArgument and name file and line. Memory is that of one row. Not thread-safe.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/data/json_file.h"
#include "worker/data/text_input.h"

namespace studio {

struct Row {
  // An object: column → value. All values of a CSV file are texts.
  Json fields;
  // "train.jsonl:7", the line where the row begins.
  std::string where;
};

class RowReader {
 public:
  explicit RowReader(std::unique_ptr<TextInput> input) : input_(std::move(input)) {}
  virtual ~RowReader() = default;

  // False at the end of the file.
  virtual absl::StatusOr<bool> Next(Row* row) = 0;

  // SHA-256 of the file; once, after Next gave false.
  std::string HexDigest() { return input_->HexDigest(); }

 protected:
  std::unique_ptr<TextInput> input_;
};

// The format goes by the name's ending, in any letter case. NotFound where there is no such file.
absl::StatusOr<std::unique_ptr<RowReader>> OpenRows(const std::string& path);

// One JSON object per line; blank lines are passed over.
std::unique_ptr<RowReader> NewJsonlReader(std::unique_ptr<TextInput> input);

// One JSON list of objects.
std::unique_ptr<RowReader> NewJsonArrayReader(std::unique_ptr<TextInput> input);

// RFC 4180, with a header: commas, quotes doubled inside quotes, line ends inside quotes; LF, CRLF or CR end a record.
// As Python's reader, a quote inside a field that does not begin with one is a plain character. Blank lines are passed
// over.
std::unique_ptr<RowReader> NewCsvReader(std::unique_ptr<TextInput> input);

}  // namespace studio
