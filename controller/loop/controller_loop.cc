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
      jobs_(store, options_.post, [this](const absl::Status& status) {
        spdlog::error("{}", std::string(status.message()));
        options_.on_failure(status);
      }) {}

absl::Status ControllerLoop::Start() {
  ASSIGN_OR_RETURN(StoreContents contents, store_.LoadAll());
  last_job_ = contents.last_job;
  last_epoch_ = contents.last_epoch;
  requests_ = std::move(contents.requests);
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
  // Often enough to tell a long wait from having stood still for lost_after.
  if (next < absl::InfiniteFuture()) next = std::min(next, now + options_.session.heartbeat);
  next_tick_ = next;
  return next - now;
}

void ControllerLoop::RequestPlan() {
  // Posted: whatever else happens in this moment is planned for together.
  if (std::exchange(plan_requested_, true)) return;
  options_.post([this] { RunPlan(); });
}

void ControllerLoop::RunPlan() {
  plan_requested_ = false;
  ClusterSnapshot snapshot{.now = options_.now(), .waiting = {}, .workers = {}};
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> busy;
  for (const int64_t number : jobs_.live()) {
    const v1::JobRecord& record = *jobs_.Decided(number);
    if (const v1::Attempt* attempt = LiveAttempt(record)) {
      for (const v1::RankAssignment& rank : attempt->ranks()) {
        for (const std::string& device : rank.device_ids()) busy[rank.worker_id()].emplace_back(device, record.id());
      }
    }
    if (record.state() != v1::PENDING) continue;
    WaitingJob job{.id = record.id(),
                   .resources = record.job().resources(),
                   .asks = AsksOf(record.job()),
                   .file_uris = {},
                   .only_worker = record.checkpoint().worker_id(),
                   .message = record.message()};
    std::set<std::string> resolved;
    for (const v1::Input& input : record.inputs()) {
      resolved.insert(input.field());
      if (absl::StartsWith(input.artifact().uri(), "file:")) job.file_uris.push_back(input.artifact().uri());
    }
    for (const NamedFile& file : NamedFiles(record.job())) {
      if (resolved.count(file.field) == 0 && absl::StartsWith(file.value, "file:")) job.file_uris.push_back(file.value);
    }
    snapshot.waiting.push_back(std::move(job));
  }
  if (snapshot.waiting.empty()) return;
  for (const auto& [id, worker] : workers_) {
    const v1::WorkerRecord& record = worker.session->worker();
    snapshot.workers.push_back({.id = id,
                                .inventory = record.inventory(),
                                .shared_roots = {record.shared_roots().begin(), record.shared_roots().end()},
                                .usable = worker.session->usable(),
                                .busy_devices = busy[id]});
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

v1::ListWorkersResponse ControllerLoop::Workers() const {
  v1::ListWorkersResponse response;
  for (const auto& [id, worker] : workers_) *response.add_workers() = worker.session->Describe();
  return response;
}

}  // namespace studio::controller
