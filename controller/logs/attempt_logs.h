// Logs and metric points of attempts, in plain files outside the store: <folder>/j7/2/rank-0.log, <folder>/j7/2/points.
//
//   AttemptLogs logs("/var/lib/studio/logs");
//   RETURN_IF_ERROR(logs.AppendLog("j7", 2, /*rank=*/0, /*offset=*/4096, "step 10 …\n"));
//   ASSIGN_OR_RETURN(std::string text, logs.ReadLog("j7", 2, 0, /*offset=*/0, /*max_bytes=*/1 << 16));
//
// Every byte of a log has its place, so a chunk that is sent twice is stored once. Nothing is synced: a dead controller
// loses nothing, a dead machine perhaps the last seconds, and no state waits for a log. point_file.h has the format of
// the points. One thread at a time; files that other processes only read.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "controller/logs/log_keeper.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::controller {

class AttemptLogs : public LogKeeper {
 public:
  // Largest log of one rank; what comes after it is refused (ResourceExhausted).
  static constexpr int64_t kMaxLogBytes = int64_t{1} << 30;

  explicit AttemptLogs(std::string folder) : folder_(std::move(folder)) {}

  absl::Status AppendLog(const std::string& job_id, int attempt, int rank, int64_t offset,
                         std::string_view data) override;
  // Empty at the end, and where nothing was ever logged.
  absl::StatusOr<std::string> ReadLog(const std::string& job_id, int attempt, int rank, int64_t offset,
                                      size_t max_bytes) const;

  absl::StatusOr<std::vector<v1::Progress>> AppendPoints(const std::string& job_id, int attempt,
                                                         const std::vector<v1::Progress>& points) override;
  absl::StatusOr<std::vector<v1::Progress>> ReadPoints(const std::string& job_id, int attempt) const;
  std::optional<v1::Progress> LastPoint(const std::string& job_id, int attempt) const override;

  // Jobs of whose logs and points nothing was written for `untouched`, by the files' times. From any
  // thread.
  std::vector<std::string> Untouched(absl::Duration untouched) const;
  // All of a job's logs and points.
  absl::Status Remove(const std::string& job_id);

 private:
  struct OpenPoints {
    int64_t size = 0;
    v1::Progress last;
  };
  std::string Folder(const std::string& job_id, int attempt) const;
  std::string LogPath(const std::string& job_id, int attempt, int rank) const;
  std::string PointPath(const std::string& job_id, int attempt) const;

  const std::string folder_;
  // By path: what this process has appended to lately. Forgotten when many: the file knows it, too.
  std::map<std::string, OpenPoints> points_;
};

}  // namespace studio::controller
