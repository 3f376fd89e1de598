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
  for (const int64_t number : batch.archived) {
    if (auto job = contents_.jobs.extract(number)) archive_.insert(std::move(job));
  }
  for (const auto& [key, time] : batch.expiring) contents_.expiring[key] = time;
  for (const std::string& key : batch.forgotten) {
    contents_.requests.erase(key);
    contents_.expiring.erase(key);
  }
  if (batch.last_job) contents_.last_job = *batch.last_job;
  if (batch.last_epoch) contents_.last_epoch = *batch.last_epoch;
  done(absl::OkStatus());
}

void MemoryStore::FindArchived(int64_t number, Found found) {
  const auto job = archive_.find(number);
  if (!failure_.ok()) return found(failure_);
  if (job == archive_.end()) return found(NoJob(number));
  found(job->second);
}

}  // namespace studio::controller
