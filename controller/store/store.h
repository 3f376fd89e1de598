// What the controller knows for good: jobs, answered requests, workers and two counters.
//
//   ASSIGN_OR_RETURN(StoreContents contents, store.LoadAll());
//   Batch batch;
//   batch.jobs.push_back(record);
//   store.Commit(std::move(batch), [](absl::Status status) { … });
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
};

struct StoreContents {
  // By number: "j7" is 7.
  std::map<int64_t, v1::JobRecord> jobs;
  std::map<std::string, std::string> requests;
  std::map<std::string, v1::WorkerRecord> workers;
  int64_t last_job = 0;
  int64_t last_epoch = 0;
};

class Store {
 public:
  using Done = std::function<void(absl::Status)>;

  virtual ~Store() = default;
  virtual absl::StatusOr<StoreContents> LoadAll() = 0;
  virtual void Commit(Batch batch, Done done) = 0;
};

// "j7" ↔ 7. Not found where the text is no job's id.
std::string JobId(int64_t number);
absl::StatusOr<int64_t> JobNumber(const std::string& id);

}  // namespace studio::controller
