// Chooses attention by the table: what is not in it is measured, once.
//
//   AttentionChooser chooser(AttentionTable(env, folder), /*log=*/[](const std::string& line) { … });
//   // The function gives microseconds.
//   AttentionKind kind = chooser.Choose(key, [&](AttentionKind kind) -> absl::StatusOr<double> { … });
//
// One candidate is taken unmeasured. One that cannot be measured is left out by this run, and nothing is stored, so
// that the next run tries again; where none can, the first is taken. Nothing here fails a run. The log has one line for
// each key that is chosen by figures, at its first time, and one for each thing that went wrong. One thread at a time;
// each rank has its own.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/trainer/planned/attention_figures.h"
#include "worker/trainer/planned/attention_table.h"

namespace studio::planned {

class AttentionChooser {
 public:
  using Log = std::function<void(const std::string& line)>;
  // Microseconds of a forward and a backward pass.
  using Measure = std::function<absl::StatusOr<double>(AttentionKind kind)>;

  AttentionChooser(AttentionTable table, Log log) : table_(std::move(table)), log_(std::move(log)) {}

  AttentionKind Choose(const AttentionKey& key, const Measure& measure);

 private:
  AttentionKind FirstTime(const AttentionKey& key, const std::vector<AttentionKind>& candidates,
                          const Measure& measure);
  // What is kept of all the candidates; empty where that lacks.
  AttentionFigures Known(const AttentionKey& key, const std::vector<AttentionKind>& candidates);
  // Of those that can be measured.
  AttentionFigures Measured(const std::vector<AttentionKind>& candidates, const Measure& measure);

  AttentionTable table_;
  const Log log_;
  // Of this process.
  std::map<AttentionKey, AttentionKind> chosen_;
};

}  // namespace studio::planned
