// What the controller knows for good: jobs, answered requests, workers and two counters.
//
//   ASSIGN_OR_RETURN(StoreContents contents, store.LoadAll());
//   Batch batch;
//   batch.jobs.push_back(record);
//   store.Commit(std::move(batch), [](absl::Status status) { … });
//
// The archive holds jobs that ended long ago: found by id, one at a time, and not loaded.
//
// Commit may be called from any one thread and returns at once; `done` runs once the batch, and every batch before it,
// is durable, on a thread of the store's own (MemoryStore: the caller's). Batches become durable in the order of their
// commits, each whole or not at all. After a failure every later commit fails too: the controller ends and starts from
// what is stored. An empty batch is a barrier.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/studio/v1/controller.pb.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::controller {

struct Batch {
  // Whole records, by id: the newer replaces the older. Shared, so that a commit copies nothing.
  std::vector<std::shared_ptr<const v1::JobRecord>> jobs;
  // Request key → job id.
  std::vector<std::pair<std::string, std::string>> requests;
  std::vector<v1::WorkerRecord> workers;
  // Number of the newest job, and the newest epoch.
  std::optional<int64_t> last_job;
  std::optional<int64_t> last_epoch;
  // Numbers of stored jobs that go to the archive as they are.
  std::vector<int64_t> archived;
  // Request key → Unix second from which its answer may be forgotten.
  std::vector<std::pair<std::string, int64_t>> expiring;
  // Request keys whose answers are forgotten.
  std::vector<std::string> forgotten;
};

struct StoreContents {
  // By number: "j7" is 7.
  std::map<int64_t, v1::JobRecord> jobs;
  std::map<std::string, std::string> requests;
  // Of the requests whose jobs are archived: as in Batch.
  std::map<std::string, int64_t> expiring;
  std::map<std::string, v1::WorkerRecord> workers;
  int64_t last_job = 0;
  int64_t last_epoch = 0;
};

class Store {
 public:
  using Done = std::function<void(absl::Status)>;
  using Found = std::function<void(absl::StatusOr<v1::JobRecord>)>;

  virtual ~Store() = default;
  virtual absl::StatusOr<StoreContents> LoadAll() = 0;
  virtual void Commit(Batch batch, Done done) = 0;
  // A job of the archive, with every batch before this call in it; NotFound. `found` runs where `done` would.
  virtual void FindArchived(int64_t number, Found found) = 0;
};

// "j7" ↔ 7. Not found where the text is no job's id.
std::string JobId(int64_t number);
absl::StatusOr<int64_t> JobNumber(const std::string& id);
// NotFound, for people.
absl::Status NoJob(int64_t number);

}  // namespace studio::controller
