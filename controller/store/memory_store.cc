#include "controller/store/memory_store.h"

namespace studio::controller {

absl::StatusOr<StoreContents> MemoryStore::LoadAll() { return contents_; }

void MemoryStore::Commit(Batch batch, Done done) {
  if (!failure_.ok()) return done(failure_);
  for (const auto& job : batch.jobs) {
    const absl::StatusOr<int64_t> number = JobNumber(job->id());
    if (!number.ok()) {
      failure_ = number.status();
      return done(failure_);
    }
    contents_.jobs[*number] = *job;
  }
  for (auto& [key, id] : batch.requests) contents_.requests[key] = id;
  for (v1::WorkerRecord& worker : batch.workers) contents_.workers[worker.id()] = std::move(worker);
  if (batch.last_job) contents_.last_job = *batch.last_job;
  if (batch.last_epoch) contents_.last_epoch = *batch.last_epoch;
  done(absl::OkStatus());
}

}  // namespace studio::controller
