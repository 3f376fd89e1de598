#include "worker/data/row_reader.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio {

absl::StatusOr<std::unique_ptr<RowReader>> OpenRows(const std::string& path) {
  std::unique_ptr<RowReader> (*make)(std::unique_ptr<TextInput>) = nullptr;
  const std::string name = absl::AsciiStrToLower(path);
  if (absl::EndsWith(name, ".jsonl") || absl::EndsWith(name, ".ndjson")) make = &NewJsonlReader;
  if (absl::EndsWith(name, ".json")) make = &NewJsonArrayReader;
  if (absl::EndsWith(name, ".csv")) make = &NewCsvReader;
  if (make == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the name ends in none of .jsonl, .json and .csv, which say how to read it"));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<TextInput> input, TextInput::Open(path));
  return make(std::move(input));
}

}  // namespace studio
