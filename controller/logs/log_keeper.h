// What the loop wants of the logs and metric points of attempts. AttemptLogs is the real one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::controller {

class LogKeeper {
 public:
  virtual ~LogKeeper() = default;

  // Chunks that were lost before this one leave empty lines in their place; one that comes twice is kept once.
  virtual absl::Status AppendLog(const std::string& job_id, int attempt, int rank, int64_t offset,
                                 std::string_view data) = 0;
  // Keeps those that go forward, and returns them.
  virtual absl::StatusOr<std::vector<v1::Progress>> AppendPoints(const std::string& job_id, int attempt,
                                                                 const std::vector<v1::Progress>& points) = 0;
  // For a restarted controller. None where there is none, or it cannot be read.
  virtual std::optional<v1::Progress> LastPoint(const std::string& job_id, int attempt) const = 0;
};

}  // namespace studio::controller
