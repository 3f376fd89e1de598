// Writes every batch that is trained, for comparisons with other trainers.
//
//   ASSIGN_OR_RETURN(BatchDump dump, BatchDump::Create("batches.json"));
//   dump.Add(step, batches);      // {"step", "micro_batches": [{"tokens", "labels", "positions", "cu_seqlens"}]}
//
// The file is a JSON object a line, flushed at each step. Labels are shifted: labels[i] is what comes after tokens[i].
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/trainer/model/batch.h"

namespace studio {

class BatchDump {
 public:
  static absl::StatusOr<BatchDump> Create(const std::string& path);

  void Add(int64_t step, double learning_rate, const std::vector<Batch>& micro_batches);

 private:
  explicit BatchDump(std::ofstream out) : out_(std::move(out)) {}
  std::ofstream out_;
};

}  // namespace studio
