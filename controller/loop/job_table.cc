#include "controller/loop/job_table.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/env/failpoint.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio::controller {
namespace {

std::pair<int64_t, int64_t> EndOf(int64_t number, const v1::JobRecord& record) {
  return {google::protobuf::util::TimeUtil::TimestampToNanoseconds(record.end_time()), number};
}

std::string NameOf(const JobEvent& event) {
  struct Names {
    std::string operator()(const Held&) const { return "held"; }
    std::string operator()(const Released&) const { return "released"; }
    std::string operator()(const Assigned&) const { return "assigned"; }
    std::string operator()(const PendingExplained&) const { return "explained"; }
    std::string operator()(const AttemptReported& e) const {
      return e.state == v1::ATTEMPT_STATE_UNSPECIFIED ? "data" : v1::AttemptState_Name(e.state);
    }
    std::string operator()(const CheckpointStored&) const { return "checkpoint"; }
    std::string operator()(const ContactLost&) const { return "contact_lost"; }
    std::string operator()(const ContactRegained&) const { return "contact_regained"; }
    std::string operator()(const GivenUp&) const { return "given_up"; }
    std::string operator()(const CancelRequested&) const { return "cancel"; }
  };
  return std::visit(Names(), event);
}

}  // namespace

JobTable::JobTable(Store& store, Post post, Done on_failure, OnDecided on_decided)
    : store_(store), post_(std::move(post)), on_failure_(std::move(on_failure)), on_decided_(std::move(on_decided)) {}

void JobTable::Load(std::map<int64_t, v1::JobRecord>&& records) {
  STUDIO_CHECK(jobs_.empty()) << "loaded twice";
  for (auto& [number, record] : records) {
    Entry& entry = jobs_[number];
    if (record.has_progress()) {
      entry.progress = record.progress();
      entry.progress_attempt = record.attempts_size();
    }
    entry.durable = std::make_shared<v1::JobRecord>(record);
    blobs_.Add(*entry.durable);
    if (IsTerminal(record.state())) {
      ended_.insert(EndOf(number, record));
    } else {
      live_.insert(number);
    }
    entry.decided = std::move(record);
    on_decided_(number, entry.decided);
  }
}

const v1::JobRecord* JobTable::Decided(int64_t number) const {
  const auto found = jobs_.find(number);
  return found == jobs_.end() ? nullptr : &found->second.decided;
}

v1::JobRecord JobTable::Shown(const Entry& entry) const {
  v1::JobRecord record = *entry.durable;
  if (entry.progress) *record.mutable_progress() = *entry.progress;
  return record;
}

absl::StatusOr<v1::JobRecord> JobTable::Durable(int64_t number) const {
  const auto found = jobs_.find(number);
  if (found == jobs_.end() || found->second.durable == nullptr) return NoJob(number);
  return Shown(found->second);
}

void JobTable::Add(v1::JobRecord record, Batch extra, Done done) {
  const absl::StatusOr<int64_t> number = JobNumber(record.id());
  STUDIO_CHECK(number.ok() && jobs_.count(*number) == 0) << record.id();
  record.set_revision(1);
  jobs_[*number].decided = std::move(record);
  live_.insert(*number);
  ++counts_.submitted;
  Save(*number, "submitted", std::move(extra), std::move(done));
}

absl::Status JobTable::Change(int64_t number, const JobEvent& event, Batch extra, Done done) {
  const auto found = jobs_.find(number);
  if (found == jobs_.end()) return NoJob(number);
  Entry& entry = found->second;
  ASSIGN_OR_RETURN(v1::JobRecord next, Apply(entry.decided, event));
  if (next.revision() == entry.decided.revision()) {
    Barrier(std::move(done));
    return absl::OkStatus();
  }
  Count(entry.decided, next, event);
  entry.decided = std::move(next);
  if (IsTerminal(entry.decided.state())) live_.erase(number);
  Save(number, FailpointsSet() ? NameOf(event) : "", std::move(extra), std::move(done));
  return absl::OkStatus();
}

void JobTable::Count(const v1::JobRecord& before, const v1::JobRecord& after, const JobEvent& event) {
  if (std::holds_alternative<Assigned>(event)) {
    const google::protobuf::Timestamp& since =
        before.attempts_size() > 0 ? before.attempts().rbegin()->end_time() : before.submit_time();
    counts_.queue_seconds.Observe(
        google::protobuf::util::TimeUtil::DurationToMicroseconds(after.attempts().rbegin()->assigned_time() - since) *
        1e-6);
  }
  if (const auto* given_up = std::get_if<GivenUp>(&event)) counts_.fences += given_up->fenced ? 1 : 0;
  if (before.state() == after.state()) return;
  if (after.state() == v1::PENDING && after.attempts_size() > 0) ++counts_.retries[after.attempts().rbegin()->reason()];
  if (IsTerminal(after.state())) ++counts_.ends[after.state()];
}

void JobTable::Save(int64_t number, const std::string& what, Batch extra, Done done) {
  Entry& entry = jobs_[number];
  on_decided_(number, entry.decided);
  if (entry.progress) *entry.decided.mutable_progress() = *entry.progress;
  auto snapshot = std::make_shared<const v1::JobRecord>(entry.decided);
  blobs_.Add(*snapshot);
  extra.jobs.push_back(snapshot);
  const auto pass = [what](const char* phase) {
    if (FailpointsSet()) Failpoint(absl::StrCat("controller.", what, ".", phase));
  };
  pass("before");
  Commit(std::move(extra), [this, number, snapshot, pass, done = std::move(done)](absl::Status status) {
    pass("committed");
    if (status.ok()) {
      Entry& stored = jobs_[number];
      if (stored.durable != nullptr) Unname(*stored.durable);
      stored.durable = snapshot;
      if (IsTerminal(snapshot->state())) ended_.insert(EndOf(number, *snapshot));
      Publish(stored, {});
    }
    if (done) done(status);
    pass("answered");
  });
}

void JobTable::Archive(const std::vector<int64_t>& numbers, Batch extra, Done done) {
  for (const int64_t number : numbers) {
    STUDIO_CHECK(ended_.erase(EndOf(number, *jobs_.at(number).durable)) == 1) << JobId(number) << " has not ended";
  }
  extra.archived = numbers;
  Commit(std::move(extra), [this, numbers, done = std::move(done)](const absl::Status& status) {
    for (const int64_t number : numbers) {
      if (!status.ok()) break;
      const auto job = jobs_.find(number);
      // Whoever watches a job that ended has been told so.
      for (const auto& [watch, watcher] : job->second.watchers) watches_.erase(watch);
      Unname(*job->second.durable);
      jobs_.erase(job);
    }
    if (done) done(status);
  });
}

void JobTable::Unname(const v1::JobRecord& record) {
  std::vector<std::string> unnamed = blobs_.Remove(record);
  std::move(unnamed.begin(), unnamed.end(), std::back_inserter(unnamed_));
}

void JobTable::Barrier(Done done) { Commit({}, std::move(done)); }

void JobTable::Commit(Batch batch, Done done) {
  store_.Commit(std::move(batch), [this, done = std::move(done)](absl::Status status) {
    post_([this, done, status] {
      if (!status.ok()) on_failure_(status);
      if (done) done(status);
    });
  });
}

void JobTable::ShowPoints(int64_t number, int attempt, std::vector<v1::Progress> points) {
  const auto found = jobs_.find(number);
  if (found == jobs_.end() || points.empty() || attempt < found->second.progress_attempt) return;
  Entry& entry = found->second;
  entry.progress_attempt = attempt;
  entry.progress = points.back();
  if (entry.durable != nullptr) Publish(entry, points);
}

void JobTable::Publish(Entry& entry, const std::vector<v1::Progress>& points) {
  if (entry.watchers.empty()) return;
  const v1::JobRecord record = Shown(entry);
  for (const auto& [watch, watcher] : std::map<int64_t, Watcher>(entry.watchers)) watcher(record, points);
}

std::vector<int64_t> JobTable::List(const std::set<v1::JobState>& states, int64_t before, size_t limit) const {
  std::vector<int64_t> numbers;
  auto end = before > 0 ? jobs_.lower_bound(before) : jobs_.end();
  for (auto it = std::make_reverse_iterator(end); it != jobs_.rend() && numbers.size() < limit; ++it) {
    const Entry& entry = it->second;
    if (entry.durable == nullptr) continue;
    if (states.empty() || states.count(entry.durable->state()) > 0) numbers.push_back(it->first);
  }
  return numbers;
}

absl::StatusOr<int64_t> JobTable::Watch(int64_t number, int64_t after_revision, const Watcher& watcher) {
  const auto found = jobs_.find(number);
  if (found == jobs_.end() || found->second.durable == nullptr) return NoJob(number);
  const int64_t watch = next_watch_++;
  watches_[watch] = number;
  found->second.watchers[watch] = watcher;
  // A terminal job has nothing to come: its watcher must learn that whatever it has seen.
  const v1::JobRecord& durable = *found->second.durable;
  if (durable.revision() > after_revision || IsTerminal(durable.state())) watcher(Shown(found->second), {});
  return watch;
}

void JobTable::Unwatch(int64_t watch) {
  const auto found = watches_.find(watch);
  if (found == watches_.end()) return;
  jobs_.at(found->second).watchers.erase(watch);
  watches_.erase(found);
}

}  // namespace studio::controller
