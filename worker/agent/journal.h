// The worker's memory across its own death: attempts that it accepted and events that nobody acknowledged yet.
// The format is in journal.proto.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Journal> journal, Journal::Open(env, state_dir + "/journal"));
//   for (const auto& [id, event] : journal->recovered().events) session.Restore(id, event);
//   RETURN_IF_ERROR(journal->Append(record));
//   RETURN_IF_ERROR(journal->Sync());          // now act on it
//
// Errors: those of the Env. Bytes that are no record end the journal; dropped_bytes says how many there were.
// Threading: belongs to one thread. The Env must outlive it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "proto/studio/v1/worker.pb.h"
#include "worker/agent/journal.pb.h"

namespace studio::worker {

// Orders attempts by job, then by time.
using AttemptId = std::tuple<std::string, int32_t, int64_t>;
AttemptId IdOf(const v1::AttemptKey& key);

// What the records add up to.
struct JournalState {
  // Accepted and not ended.
  std::map<AttemptId, v1::Assign> attempts;
  // Not acknowledged, by id.
  std::map<int64_t, v1::WorkerUp> events;
  // The largest id ever given.
  int64_t last_event_id = 0;

  void Apply(const JournalRecord& record);
};

// Replays as many whole records as there are; returns the bytes they take.
size_t ReplayJournal(std::string_view bytes, JournalState& state);

class Journal {
 public:
  // It is rewritten with what still matters at each start, and whenever it has grown to `compact_bytes` and to twice of
  // what mattered the last time.
  static constexpr int64_t kCompactBytes = 4 << 20;
  static absl::StatusOr<std::unique_ptr<Journal>> Open(Env& env, const std::string& path,
                                                       int64_t compact_bytes = kCompactBytes);

  const JournalState& recovered() const { return recovered_; }
  int64_t dropped_bytes() const { return dropped_bytes_; }
  int64_t bytes() const { return bytes_; }

  absl::Status Append(const JournalRecord& record);
  // What was appended is durable.
  absl::Status Sync();

 private:
  Journal(Env& env, std::string path, int64_t compact_bytes)
      : env_(env), path_(std::move(path)), compact_bytes_(compact_bytes) {}
  // The old records or the new ones are there, whatever happens meanwhile.
  absl::Status Compact();

  Env& env_;
  const std::string path_;
  const int64_t compact_bytes_;
  JournalState recovered_;
  JournalState state_;  // what all records add up to
  int64_t bytes_ = 0;
  int64_t compact_at_ = 0;
  int64_t dropped_bytes_ = 0;
  std::string unsynced_;  // what was appended last, for failpoints; empty: nothing since the last sync
  std::unique_ptr<AppendFile> file_;
};

}  // namespace studio::worker
