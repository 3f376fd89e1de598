#include "controller/loop/controller_loop.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/job/job_rules.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "controller/scheduler/scheduler.h"

namespace studio::controller {

ControllerLoop::ControllerLoop(Store& store, LogKeeper& logs, LoopOptions options)
    : logs_(logs),
      store_(store),
      options_(std::move(options)),
      jobs_(
          store, options_.post,
          [this](const absl::Status& status) {
            spdlog::error("{}: stopping. What was answered is stored; see to the disk, then start again",
                          std::string(status.message()));
            options_.on_failure(status);
          },
          [this](int64_t number, const v1::JobRecord& record) { queue_.Update(number, record); }) {}

absl::Status ControllerLoop::Start() {
  ASSIGN_OR_RETURN(StoreContents contents, store_.LoadAll());
  last_job_ = contents.last_job;
  last_epoch_ = contents.last_epoch;
  requests_ = std::move(contents.requests);
  for (const auto& [key, second] : contents.expiring) expiring_.emplace(second, key);
  for (auto& [id, worker] : contents.workers) {
    workers_[id].session = std::make_unique<WorkerSession>(options_.session, std::move(worker));
  }
  const absl::Time now = options_.now();
  for (auto& [number, record] : contents.jobs) {
    const v1::Attempt* attempt = LiveAttempt(record);
    if (attempt == nullptr) continue;
    if (std::optional<v1::Progress> last = logs_.LastPoint(record.id(), attempt->number())) {
      *record.mutable_progress() = *std::move(last);
    }
    WorkerSession& session = *WorkerOf(attempt->ranks(0).worker_id()).session;
    session.Track(AssignmentOf(record), FenceOf(record), attempt->state(), now);
    if (record.cancel_requested()) session.Stop(StopFor(record));
  }
  jobs_.Load(std::move(contents.jobs));
  RequestPlan();
  return absl::OkStatus();
}

absl::Duration ControllerLoop::Tick() {
  absl::Time next = absl::InfiniteFuture();
  const absl::Time now = options_.now();
  // It was stopped, or its machine slept: what the workers said meanwhile has yet to be read.
  if (now >= next_tick_ + options_.session.lost_after - options_.session.heartbeat) {
    spdlog::warn("away for {}: every attempt counts as just renewed", absl::FormatDuration(now - next_tick_));
    for (auto& [id, worker] : workers_) worker.session->RenewAll(now);
  }
  for (auto& [id, worker] : workers_) {
    if (worker.session->NextDeadline() <= now) Do(id, worker.session->OnTick(now));
    next = std::min(next, worker.session->NextDeadline());
  }
  if (plan_requested_ && next_plan_ <= now) RunPlan();
  if (plan_requested_) next = std::min(next, next_plan_);
  next = std::min({next, ArchiveOldJobs(now), ForgetRequests(now), CollectSuperseded(now)});
  // Often enough to tell a long wait from having stood still for lost_after.
  if (next < absl::InfiniteFuture()) next = std::min(next, now + options_.session.heartbeat);
  next_tick_ = next;
  return next - now;
}

void ControllerLoop::RequestPlan() {
  // Posted: whatever else happens in this moment is planned for together.
  if (std::exchange(plan_requested_, true) || options_.now() < next_plan_) return;
  options_.post([this] { RunPlan(); });
}

void ControllerLoop::RunPlan() {
  plan_requested_ = false;
  if (queue_.empty()) return;
  const absl::Time start = options_.now();
  ClusterSnapshot snapshot{.now = start, .waiting = queue_.Waiting(), .workers = {}};
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> busy = queue_.Busy();
  for (const auto& [id, worker] : workers_) {
    const v1::WorkerRecord& record = worker.session->worker();
    snapshot.workers.push_back({.id = id,
                                .inventory = record.inventory(),
                                .shared_roots = {record.shared_roots().begin(), record.shared_roots().end()},
                                .usable = worker.session->usable(),
                                .busy_devices = std::move(busy[id])});
  }
  for (Action& action : Plan(snapshot)) {
    if (Assign* assign = std::get_if<Assign>(&action)) {
      Start(assign->job_id, std::move(assign->ranks));
    } else {
      const Explain& explain = std::get<Explain>(action);
      const absl::Status status = jobs_.Change(*JobNumber(explain.job_id), PendingExplained{explain.message}, {}, {});
      STUDIO_CHECK(status.ok()) << status;
    }
  }
  // A long queue must not keep the thread from answering: four fifths of the time are for the rest.
  const absl::Time end = options_.now();
  next_plan_ = end + 4 * (end - start);
}

void ControllerLoop::Start(const std::string& job_id, std::vector<v1::RankAssignment> ranks) {
  const int64_t number = *JobNumber(job_id);
  Batch batch;
  batch.last_epoch = ++last_epoch_;
  const Assigned event{.epoch = last_epoch_, .ranks = std::move(ranks), .time = options_.now()};
  const absl::Status status = jobs_.Change(number, event, std::move(batch), [this, number](const absl::Status& stored) {
    if (stored.ok()) Deliver(number);
  });
  STUDIO_CHECK(status.ok()) << status;
}

void ControllerLoop::Deliver(int64_t number) {
  const v1::JobRecord& record = *jobs_.Decided(number);
  const v1::Attempt* attempt = LiveAttempt(record);
  if (attempt == nullptr) return;
  const std::string worker_id = attempt->ranks(0).worker_id();
  spdlog::info("{} attempt {} epoch {} goes to worker {}", record.id(), attempt->number(), attempt->epoch(), worker_id);
  WorkerSession& session = *WorkerOf(worker_id).session;
  Do(worker_id, session.Deliver(AssignmentOf(record), FenceOf(record), options_.now()));
  // Asked for while the assignment was being stored.
  if (record.cancel_requested()) Do(worker_id, session.Stop(StopFor(record)));
}

v1::Assign ControllerLoop::AssignmentOf(const v1::JobRecord& record) {
  const v1::Attempt& attempt = *LiveAttempt(record);
  v1::Assign assign;
  assign.mutable_key()->set_job_id(record.id());
  assign.mutable_key()->set_attempt(attempt.number());
  assign.mutable_key()->set_epoch(attempt.epoch());
  *assign.mutable_job() = record.job();
  *assign.mutable_inputs() = record.inputs();
  *assign.mutable_ranks() = attempt.ranks();
  *assign.mutable_plan() = attempt.plan();
  if (attempt.has_rendezvous()) *assign.mutable_rendezvous() = attempt.rendezvous();
  if (record.has_checkpoint()) *assign.mutable_checkpoint() = record.checkpoint();
  return assign;
}

absl::Duration ControllerLoop::FenceOf(const v1::JobRecord& record) {
  return absl::Seconds(record.job().retry().fence_seconds());
}

v1::StopAttempt ControllerLoop::StopFor(const v1::JobRecord& record) const {
  const v1::Attempt& attempt = *LiveAttempt(record);
  v1::StopAttempt stop;
  stop.mutable_key()->set_job_id(record.id());
  stop.mutable_key()->set_attempt(attempt.number());
  stop.mutable_key()->set_epoch(attempt.epoch());
  stop.mutable_stop()->set_reason(v1::CANCELLED_BY_USER);
  stop.mutable_stop()->set_discard(true);
  stop.set_grace_seconds(absl::ToDoubleSeconds(options_.stop_grace));
  return stop;
}

ControllerLoop::Worker& ControllerLoop::WorkerOf(const std::string& id) {
  Worker& worker = workers_[id];
  if (worker.session == nullptr) {
    v1::WorkerRecord record;
    record.set_id(id);
    worker.session = std::make_unique<WorkerSession>(options_.session, std::move(record));
  }
  return worker;
}

absl::Status ControllerLoop::CheckBlobs(const v1::Artifact& artifact) const {
  if (!absl::StartsWith(artifact.uri(), "studio:")) return absl::OkStatus();
  for (const v1::FileRef& file : artifact.files()) {
    if (options_.has_blob(file)) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("\"", file.path(), "\" (", file.sha256(), ") is not in the content store: upload it first"));
  }
  return absl::OkStatus();
}

void ControllerLoop::Describe(MetricsText& text) const {
  std::map<v1::JobState, int64_t> states;
  for (const int64_t number : jobs_.live()) ++states[jobs_.Decided(number)->state()];
  for (const v1::JobState state : {v1::HELD, v1::PENDING, v1::RUNNING, v1::CANCELLING}) {
    text.Gauge("studio_jobs", "Jobs that have not ended, by state.", {{"state", v1::JobState_Name(state)}},
               static_cast<double>(states[state]));
  }
  int connected = 0, devices = 0;
  for (const auto& [id, worker] : workers_) {
    if (!worker.session->connected()) continue;
    ++connected;
    devices += worker.session->worker().inventory().devices_size();
  }
  text.Gauge("studio_workers", "Workers that are known, by whether they are in contact.", {{"contact", "yes"}},
             connected);
  text.Gauge("studio_workers", "", {{"contact", "no"}}, static_cast<double>(workers_.size()) - connected);
  text.Gauge("studio_devices", "Devices of workers in contact.", {}, devices);
  const JobCounts& counts = jobs_.counts();
  text.Gauge("studio_jobs_ended_in_memory", "Jobs that ended and are not archived yet.", {},
             static_cast<double>(jobs_.ended().size()));
  text.Counter("studio_jobs_archived_total", "Jobs that went to the archive.", {}, archived_jobs_);
  text.Counter("studio_jobs_submitted_total", "Jobs accepted.", {}, counts.submitted);
  for (const v1::JobState state : {v1::SUCCEEDED, v1::FAILED, v1::CANCELLED}) {
    const auto found = counts.ends.find(state);
    text.Counter("studio_jobs_ended_total", "Jobs that ended, by how.", {{"state", v1::JobState_Name(state)}},
                 found == counts.ends.end() ? 0 : found->second);
  }
  for (const auto& [reason, times] : counts.retries) {
    text.Counter("studio_retries_total", "Attempts after which the job went on with another, by their reason.",
                 {{"reason", v1::Reason_Name(reason)}}, times);
  }
  text.Counter("studio_stale_epochs_total", "Words of attempts that were over: acknowledged and ignored.", {},
               stale_epochs_);
  text.Counter("studio_fences_total", "Attempts given up because their fence passed.", {}, counts.fences);
  text.Gauge("studio_named_bytes", "Bytes of the files that jobs name.", {},
             static_cast<double>(jobs_.blobs().bytes()));
  text.Counter("studio_collected_files_total", "Files removed from the content store because no job named them.", {},
               collected_blobs_);
  text.Counter("studio_collected_bytes_total", "Bytes of these.", {}, collected_bytes_);
  text.Add("studio_queue_seconds", "From submit, or the end of the last attempt, to the assignment.",
           counts.queue_seconds);
}

v1::ListWorkersResponse ControllerLoop::Workers() const {
  v1::ListWorkersResponse response;
  for (const auto& [id, worker] : workers_) *response.add_workers() = worker.session->Describe();
  return response;
}

}  // namespace studio::controller
