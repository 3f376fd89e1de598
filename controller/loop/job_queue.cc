#include "controller/loop/job_queue.h"

#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/job/job_machine.h"
#include "common/job/job_rules.h"

namespace studio::controller {
namespace {

// What of the job is not in the content store: workers must share the folder.
std::vector<std::string> SharedFiles(const v1::JobRecord& record) {
  std::vector<std::string> uris;
  std::set<std::string> resolved;
  for (const v1::Input& input : record.inputs()) {
    resolved.insert(input.field());
    if (absl::StartsWith(input.artifact().uri(), "file:")) uris.push_back(input.artifact().uri());
  }
  for (const NamedFile& file : NamedFiles(record.job())) {
    if (resolved.count(file.field) == 0 && absl::StartsWith(file.value, "file:")) uris.push_back(file.value);
  }
  return uris;
}

// Equal for equal needs. A part's length stands before it: no two parts run together.
std::string KeyOf(const Needs& needs) {
  std::string key = absl::StrCat(static_cast<int>(needs.asks.backend), ";");
  const auto add = [&key](const std::string& part) { absl::StrAppend(&key, part.size(), ":", part); };
  add(needs.resources.SerializeAsString());
  add(needs.only_worker);
  for (const Ask& ask : needs.asks.explicitly) {
    add(ask.field);
    add(absl::StrCat(static_cast<int>(ask.axis)));
    add(ask.choice);
  }
  key.push_back(';');
  for (const std::string& uri : needs.file_uris) add(uri);
  return key;
}

}  // namespace

std::shared_ptr<const Needs> JobQueue::NeedsOf(const v1::JobRecord& record) {
  Needs needs{.resources = record.job().resources(),
              .asks = AsksOf(record.job()),
              .file_uris = SharedFiles(record),
              .only_worker = record.checkpoint().worker_id()};
  std::weak_ptr<const Needs>& known = needs_[KeyOf(needs)];
  if (std::shared_ptr<const Needs> same = known.lock()) return same;
  auto fresh = std::make_shared<const Needs>(std::move(needs));
  known = fresh;
  // Those that no job needs any more go when they are as many as the others.
  if (needs_.size() > 2 * waiting_.size() + 16) {
    std::erase_if(needs_, [](const auto& entry) { return entry.second.expired(); });
  }
  return fresh;
}

void JobQueue::Update(int64_t number, const v1::JobRecord& record) {
  held_.erase(number);
  if (const v1::Attempt* attempt = LiveAttempt(record)) {
    Held& held = held_[number];
    held.job_id = record.id();
    for (const v1::RankAssignment& rank : attempt->ranks()) {
      for (const std::string& device : rank.device_ids()) held.devices.emplace_back(rank.worker_id(), device);
    }
  }
  if (record.state() != v1::PENDING) {
    waiting_.erase(number);
    return;
  }
  // What it needs stays as it is for as long as it waits.
  const auto [job, is_new] = waiting_.try_emplace(number);
  if (is_new) {
    job->second.id = record.id();
    job->second.needs = NeedsOf(record);
  }
  job->second.message = record.message();
}

std::vector<WaitingJob> JobQueue::Waiting() const {
  std::vector<WaitingJob> jobs;
  jobs.reserve(waiting_.size());
  for (const auto& [number, job] : waiting_) jobs.push_back(job);
  return jobs;
}

std::map<std::string, std::vector<std::pair<std::string, std::string>>> JobQueue::Busy() const {
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> busy;
  for (const auto& [number, held] : held_) {
    for (const auto& [worker, device] : held.devices) busy[worker].emplace_back(device, held.job_id);
  }
  return busy;
}

}  // namespace studio::controller
