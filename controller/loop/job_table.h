// All jobs in memory, in two forms: as decided, and as durable. Decisions build on the first; only the second is shown.
//
//   absl::Status status = table.Change(number, CancelRequested{now}, {}, [](absl::Status stored) { … reply … });
//
// Each change goes through the job machine and into the store; `done` and the watchers learn of it once it is durable.
// Belongs to one thread, to which `post` brings the store's answers. The store outlives the table.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/job/job_machine.h"
#include "common/metrics/metrics.h"
#include "controller/store/blobs.h"
#include "controller/store/store.h"

namespace studio::controller {

using Post = std::function<void(std::function<void()>)>;

// What has happened to jobs since this controller started.
struct JobCounts {
  int64_t submitted = 0;
  int64_t fences = 0;
  std::map<v1::Reason, int64_t> retries;  // attempts after which the job went back to PENDING
  std::map<v1::JobState, int64_t> ends;   // jobs that ended, by how
  Histogram queue_seconds;                // from submit, or the last attempt's end, to the assignment
};

class JobTable {
 public:
  using Done = std::function<void(absl::Status)>;
  // A durable record with its progress, and the points since the last call.
  using Watcher = std::function<void(const v1::JobRecord& record, const std::vector<v1::Progress>& points)>;

  // A job as it is decided now: at each change, and as it is loaded.
  using OnDecided = std::function<void(int64_t number, const v1::JobRecord& record)>;

  // `on_failure` runs when the store fails: nothing can be decided any more.
  JobTable(Store& store, Post post, Done on_failure, OnDecided on_decided);

  void Load(std::map<int64_t, v1::JobRecord>&& records);

  // As decided. Null where there is none.
  const v1::JobRecord* Decided(int64_t number) const;
  // As durable, with its progress. Not found also while the job is being stored.
  absl::StatusOr<v1::JobRecord> Durable(int64_t number) const;

  // `record` is new, and has an id. `extra` becomes durable with it.
  void Add(v1::JobRecord record, Batch extra, Done done);
  // Applies the event; `done` runs once the job is durable as it is after it (also where nothing changed), and never
  // where this returns an error.
  absl::Status Change(int64_t number, const JobEvent& event, Batch extra, Done done);
  // Runs `done` once everything decided so far is durable.
  void Barrier(Done done);
  // Stores a batch without jobs.
  void Commit(Batch batch, Done done);

  // Jobs of ended() leave the memory once the store has them in its archive. `extra` becomes durable with it.
  void Archive(const std::vector<int64_t>& numbers, Batch extra, Done done);

  // Points of an attempt, for people: shown at once, stored with the next change. Older attempts' are passed over.
  void ShowPoints(int64_t number, int attempt, std::vector<v1::Progress> points);

  const JobCounts& counts() const { return counts_; }

  // What the records name: from the one that is durable to the one that is decided, for whatever a crash leaves.
  const NamedBlobs& blobs() const { return blobs_; }
  // Hashes that were named and are no more, since the last call. They may be named again since.
  std::vector<std::string> TakeUnnamed() { return std::exchange(unnamed_, {}); }

  // Jobs that are not terminal, oldest first.
  const std::set<int64_t>& live() const { return live_; }
  // Those that are durably terminal and not being archived, by when they ended (Unix nanoseconds) and number.
  const std::set<std::pair<int64_t, int64_t>>& ended() const { return ended_; }
  // Newest first, below `before` (0: all), of these states (empty: all).
  std::vector<int64_t> List(const std::set<v1::JobState>& states, int64_t before, size_t limit) const;

  // Called now, unless the job is at `after_revision` or before it, and at each change, until Unwatch.
  absl::StatusOr<int64_t> Watch(int64_t number, int64_t after_revision, const Watcher& watcher);
  void Unwatch(int64_t watch);

 private:
  struct Entry {
    v1::JobRecord decided;
    std::shared_ptr<const v1::JobRecord> durable;  // null until first stored
    std::optional<v1::Progress> progress;
    int progress_attempt = 0;
    std::map<int64_t, Watcher> watchers;
  };
  v1::JobRecord Shown(const Entry& entry) const;
  void Unname(const v1::JobRecord& record);
  void Publish(Entry& entry, const std::vector<v1::Progress>& points);
  // `what`: the change, for failpoints.
  void Count(const v1::JobRecord& before, const v1::JobRecord& after, const JobEvent& event);
  void Save(int64_t number, const std::string& what, Batch extra, Done done);

  Store& store_;
  const Post post_;
  const Done on_failure_;
  const OnDecided on_decided_;
  std::map<int64_t, Entry> jobs_;
  std::set<int64_t> live_;
  std::set<std::pair<int64_t, int64_t>> ended_;
  JobCounts counts_;
  NamedBlobs blobs_;
  std::vector<std::string> unnamed_;
  std::map<int64_t, int64_t> watches_;  // watch → job
  int64_t next_watch_ = 1;
};

}  // namespace studio::controller
