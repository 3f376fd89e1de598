#include "tests/sim/sim_store.h"

#include <utility>

namespace studio::sim {

void SimStore::Commit(controller::Batch batch, Done done) {
  queue_.push_back({std::move(batch), std::move(done)});
  if (writing_.empty()) StartWrite();
}

void SimStore::FindArchived(int64_t number, Found found) {
  Commit({}, [this, number, found = std::move(found)](const absl::Status& status) {
    if (!status.ok()) return found(status);
    disk_.durable.FindArchived(number, found);
  });
}

void SimStore::StartWrite() {
  writing_.swap(queue_);
  const absl::Duration time = disk_.slow ? disk_.random.Ms(1, 2000) : disk_.random.Ms(0, 3);
  engine_.After(time, &process_, [this] { EndWrite(); });
}

void SimStore::MakeDurable(std::deque<Waiting>& group) {
  for (Waiting& waiting : group) {
    std::vector<std::shared_ptr<const v1::JobRecord>> jobs = waiting.batch.jobs;
    const std::vector<int64_t> archived = waiting.batch.archived;
    disk_.durable.Commit(std::move(waiting.batch), [](const absl::Status&) {});
    for (const auto& job : jobs) history_.Durable(*job);
    for (const int64_t number : archived) history_.Archived(controller::JobId(number));
  }
}

void SimStore::EndWrite() {
  ++disk_.commits;
  const StoreDisk::Ill ill = failure_.ok() ? std::exchange(disk_.ill, StoreDisk::Ill::kNot) : StoreDisk::Ill::kNot;
  if (ill == StoreDisk::Ill::kCrashBefore) {
    writing_.clear();
    throw Crash();
  }
  if (ill == StoreDisk::Ill::kFails) failure_ = absl::InternalError("the disk does not write");
  if (failure_.ok()) MakeDurable(writing_);
  if (ill == StoreDisk::Ill::kCrashAfter) {
    writing_.clear();
    throw Crash();
  }
  if (ill == StoreDisk::Ill::kAnswerLost) failure_ = absl::InternalError("the disk does not answer");
  std::deque<Waiting> group = std::exchange(writing_, {});
  for (const Waiting& waiting : group) waiting.done(failure_);
  if (!queue_.empty() && writing_.empty()) StartWrite();
}

void SimStore::Die() {
  if (!writing_.empty() && failure_.ok() && disk_.random.Chance(50)) MakeDurable(writing_);
  writing_.clear();
  queue_.clear();
}

}  // namespace studio::sim
