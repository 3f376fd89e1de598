#include "worker/data/row_pass.h"

#include <atomic>
#include <optional>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio {
namespace {

// Rows between two joins of the threads: many enough to keep them busy, few enough to hold in memory.
constexpr size_t kBatchRows = 1024;

struct Work {
  Row row;
  TokenizedRow result;
  absl::Status status;
};

void Process(const RowFormat& format, const ExampleMaker& maker, Work* work) {
  absl::StatusOr<std::optional<Conversation>> talk = format.Parse(work->row);
  if (!talk.ok() || !talk->has_value()) {
    work->status =
        talk.ok() ? absl::AbortedError(absl::StrCat(work->row.where, ": changed while it was read")) : talk.status();
    return;
  }
  work->result.talk = **std::move(talk);
  work->result.where = work->row.where;
  absl::StatusOr<MadeExamples> made = maker.Make(work->result.talk);
  if (made.ok()) {
    work->result.made = *std::move(made);
  } else {
    work->status = absl::Status(made.status().code(), absl::StrCat(work->row.where, ": ", made.status().message()));
  }
}

void ProcessAll(const RowFormat& format, const ExampleMaker& maker, int threads, std::vector<Work>* batch) {
  std::atomic<size_t> next{0};
  auto work = [&] {
    for (size_t i; (i = next.fetch_add(1)) < batch->size();) Process(format, maker, &(*batch)[i]);
  };
  std::vector<std::jthread> helpers;
  for (int i = 1; i < threads && i < static_cast<int>(batch->size()); ++i) helpers.emplace_back(work);
  work();
}

}  // namespace

absl::StatusOr<RowScan> ScanRows(const std::string& path, const v1::Dataset& dataset) {
  ASSIGN_OR_RETURN(std::unique_ptr<RowReader> reader, OpenRows(path));
  RowScan scan{RowFormat(dataset), {}, 0, ""};
  std::set<std::string> seen;
  for (Row row;;) {
    ASSIGN_OR_RETURN(bool more, reader->Next(&row));
    if (!more) break;
    if (scan.usable.empty()) RETURN_IF_ERROR(scan.format.Begin(row));
    ASSIGN_OR_RETURN(std::optional<Conversation> talk, scan.format.Parse(row, &seen));
    scan.usable.push_back(talk.has_value());
    scan.usable_rows += talk.has_value();
  }
  if (scan.usable.empty()) return absl::InvalidArgumentError(absl::StrCat(path, ": empty: no rows in it"));
  RETURN_IF_ERROR(scan.format.CheckColumns(seen));
  if (scan.usable_rows == 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no row with an answer among ", scan.usable.size(), " (",
                                                   scan.format.AnswerPlace(), " is empty in all of them)"));
  }
  scan.sha256 = reader->HexDigest();
  return scan;
}

absl::Status TokenizeRows(const std::string& path, const RowScan& scan, const std::vector<RowUse>& use,
                          const ExampleMaker& maker, int threads, const std::function<void(int64_t)>& on_batch,
                          const std::function<absl::Status(TokenizedRow)>& on_row) {
  ASSIGN_OR_RETURN(std::unique_ptr<RowReader> reader, OpenRows(path));
  const absl::Status changed = absl::AbortedError(absl::StrCat(path, ": changed while it was read; submit it again"));
  size_t row = 0;
  for (bool more = true; more;) {
    std::vector<Work> batch;
    while (batch.size() < kBatchRows) {
      Work work;
      ASSIGN_OR_RETURN(more, reader->Next(&work.row));
      if (!more) break;
      if (row == use.size()) return changed;
      work.result.use = use[row++];
      if (work.result.use != RowUse::kUnused) batch.push_back(std::move(work));
    }
    ProcessAll(scan.format, maker, threads, &batch);
    for (Work& work : batch) {
      RETURN_IF_ERROR(work.status);
      RETURN_IF_ERROR(on_row(std::move(work.result)));
    }
    on_batch(static_cast<int64_t>(row));
  }
  return row == use.size() && reader->HexDigest() == scan.sha256 ? absl::OkStatus() : changed;
}

}  // namespace studio
