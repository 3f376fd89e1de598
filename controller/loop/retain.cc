// What leaves the memory: jobs that ended long ago, and what their request ids were answered with.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "controller/loop/controller_loop.h"

namespace studio::controller {
namespace {

// A batch's worth: what it costs is another's wait.
constexpr size_t kAtOnce = 100;

}  // namespace

absl::Time ControllerLoop::ArchiveOldJobs(absl::Time now) {
  if (archiving_) return absl::InfiniteFuture();  // Tick runs after its answer
  const auto& ended = jobs_.ended();
  std::vector<int64_t> numbers;
  Batch batch;
  absl::Time due = absl::InfiniteFuture();
  for (const auto& [end, number] : ended) {
    const absl::Time end_time = absl::FromUnixNanos(end);
    const bool too_many = std::ssize(ended) - std::ssize(numbers) > options_.keep_jobs;
    if (!too_many && now < end_time + options_.keep_ended) {
      due = end_time + options_.keep_ended;
      break;
    }
    if (numbers.size() == kAtOnce) break;
    numbers.push_back(number);
    const v1::JobRecord& record = *jobs_.Decided(number);
    if (record.request_id().empty()) continue;
    batch.expiring.emplace_back(KeyOf(record.owner(), record.request_id()),
                                absl::ToUnixSeconds(std::min(end_time, now) + options_.keep_requests));
  }
  if (numbers.empty()) return due;
  archiving_ = true;
  std::vector<std::pair<std::string, int64_t>> expiring = batch.expiring;
  jobs_.Archive(numbers, std::move(batch), [this, count = std::ssize(numbers), expiring](const absl::Status& status) {
    if (!status.ok()) return;
    archiving_ = false;
    archived_jobs_ += count;
    for (const auto& [key, second] : expiring) expiring_.emplace(second, key);
    spdlog::debug("{} jobs that ended were archived", count);
  });
  return absl::InfiniteFuture();
}

absl::Time ControllerLoop::ForgetRequests(absl::Time now) {
  Batch batch;
  while (!expiring_.empty() && batch.forgotten.size() < kAtOnce) {
    const auto& [second, key] = *expiring_.begin();
    if (now < absl::FromUnixSeconds(second)) break;
    requests_.erase(key);
    batch.forgotten.push_back(key);
    expiring_.erase(expiring_.begin());
  }
  if (!batch.forgotten.empty()) jobs_.Commit(std::move(batch), {});
  return expiring_.empty() ? absl::InfiniteFuture() : absl::FromUnixSeconds(expiring_.begin()->first);
}

std::vector<std::string> ControllerLoop::NotInMemory(const std::vector<std::string>& ids) const {
  std::vector<std::string> gone;
  std::copy_if(ids.begin(), ids.end(), std::back_inserter(gone), [&](const std::string& id) {
    const absl::StatusOr<int64_t> number = JobNumber(id);
    return number.ok() && jobs_.Decided(*number) == nullptr;
  });
  return gone;
}

}  // namespace studio::controller
