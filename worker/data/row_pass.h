// The two passes over a data file: the first counts and judges rows, the second tokenises the chosen ones.
//
//   ASSIGN_OR_RETURN(RowScan scan, ScanRows("train.jsonl", dataset));
//   std::vector<RowUse> use = SelectRows(scan.usable, …);
//   RETURN_IF_ERROR(TokenizeRows("train.jsonl", scan, use, maker, 8, on_batch, on_row));
//
// Reading twice costs little beside tokenising, makes the split exact and known in advance, and tells rows without an
// answer from rows not drawn.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"
#include "worker/data/conversation.h"
#include "worker/data/example_maker.h"
#include "worker/data/split.h"

namespace studio {

struct RowScan {
  RowFormat format;
  // Of every row: it has an answer.
  std::vector<bool> usable;
  int64_t usable_rows = 0;
  std::string sha256;
};

// InvalidArgument for an empty file, a row that cannot be read, or a column that no row has.
absl::StatusOr<RowScan> ScanRows(const std::string& path, const v1::Dataset& dataset);

// A chosen row, tokenised.
struct TokenizedRow {
  RowUse use;
  std::string where;
  Conversation talk;
  MadeExamples made;
};

// Calls on_row for the chosen rows in file order, on the calling thread, and on_batch with the rows done now and then.
// The work in between is spread over `threads`; nothing depends on their number. Aborted where the file changed since
// the scan.
absl::Status TokenizeRows(const std::string& path, const RowScan& scan, const std::vector<RowUse>& use,
                          const ExampleMaker& maker, int threads, const std::function<void(int64_t)>& on_batch,
                          const std::function<absl::Status(TokenizedRow)>& on_row);

}  // namespace studio
