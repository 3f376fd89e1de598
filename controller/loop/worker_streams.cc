// Workers' streams: which session each belongs to, and what the sessions want done.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/artifact/file_tree.h"
#include "common/status/macros.h"
#include "controller/loop/controller_loop.h"

namespace studio::controller {
namespace {

constexpr size_t kMaxWorkerId = 128;

// What ended without its result has not succeeded, whatever it says.
AttemptReported WithoutResult(AttemptReported event, const absl::Status& missing) {
  event.state = v1::ATTEMPT_FAILED;
  event.reason = v1::STORAGE;
  event.message = absl::StrCat("the result did not arrive: ", missing.message());
  return event;
}

}  // namespace

int64_t ControllerLoop::OpenStream(std::shared_ptr<StreamSink> sink) {
  streams_[next_stream_].sink = std::move(sink);
  return next_stream_++;
}

void ControllerLoop::OnStreamMessage(int64_t stream, const v1::WorkerUp& message) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  const std::string worker_id = found->second.worker_id;
  if (worker_id.empty()) return Greet(stream, message);
  Worker& worker = WorkerOf(worker_id);
  if (worker.stream == stream) Do(worker_id, worker.session->OnMessage(message, options_.now()));
}

void ControllerLoop::Greet(int64_t stream, const v1::WorkerUp& message) {
  Stream& opened = streams_[stream];
  const std::string& id = message.hello().worker_id();
  absl::Status status;
  if (!message.has_hello() || id.empty() || id.size() > kMaxWorkerId) {
    status = absl::InvalidArgumentError("the first message must be a Hello with a worker_id of 1 to 128 bytes");
  } else {
    // Before anything is taken from a stream that works, or kept of a worker that cannot join.
    const auto known = workers_.find(id);
    status = known != workers_.end() ? known->second.session->Check(message.hello())
                                     : WorkerSession(options_.session, {}).Check(message.hello());
  }
  if (!status.ok()) {
    v1::WorkerDown down;
    down.set_refused(std::string(status.message()));
    opened.sink->Send(std::move(down));
    opened.sink->Close(status);
    streams_.erase(stream);
    return;
  }
  Worker& worker = WorkerOf(id);
  if (worker.stream != 0) {
    const auto old = streams_.find(worker.stream);
    if (old != streams_.end()) old->second.sink->Close(absl::AbortedError("the worker has dialled anew"));
    streams_.erase(worker.stream);
  }
  opened.worker_id = id;
  worker.stream = stream;
  const absl::Time now = options_.now();
  worker.greeted = now;
  worker.session->Connected(now);
  Do(id, worker.session->OnMessage(message, now));
}

void ControllerLoop::OnStreamClosed(int64_t stream) {
  const auto found = streams_.find(stream);
  if (found == streams_.end()) return;
  const std::string worker_id = found->second.worker_id;
  streams_.erase(found);
  if (worker_id.empty()) return;
  Worker& worker = WorkerOf(worker_id);
  if (worker.stream != stream) return;
  worker.stream = 0;
  spdlog::info("worker {} hung up", worker_id);
  Do(worker_id, worker.session->Disconnected());
}

size_t ControllerLoop::Unsettled(int64_t stream) const {
  const auto found = streams_.find(stream);
  const auto worker = found == streams_.end() ? workers_.end() : workers_.find(found->second.worker_id);
  return worker == workers_.end() || worker->second.stream != stream ? 0 : worker->second.session->unsettled();
}

void ControllerLoop::ConfirmDead(const std::string& who, const std::string& worker_id, Reply<v1::WorkerRecord> reply) {
  const auto found = workers_.find(worker_id);
  if (found == workers_.end()) {
    return reply(
        absl::NotFoundError(absl::StrCat("no worker \"", worker_id, "\"; `studioctl workers` shows those there are")));
  }
  if (found->second.session->connected()) {
    return reply(absl::FailedPreconditionError(
        absl::StrCat("worker ", worker_id, " is in contact: stop it there; only one that is out of contact can be ",
                     "confirmed dead")));
  }
  spdlog::warn("worker {}: {} confirms that it is dead", worker_id, who);
  Do(worker_id, found->second.session->ConfirmDead(who, options_.now()));
  jobs_.Barrier([this, worker_id, reply](const absl::Status& stored) {
    if (!stored.ok()) return reply(stored);
    reply(WorkerOf(worker_id).session->Describe());
  });
}

void ControllerLoop::CloseStreams(const absl::Status& why) {
  for (auto& [number, stream] : streams_) stream.sink->Close(why);
}

void ControllerLoop::Do(const std::string& worker_id, SessionActions actions) {
  for (SessionAction& action : actions) {
    Worker& worker = WorkerOf(worker_id);
    const auto stream = streams_.find(worker.stream);
    if (auto* send = std::get_if<SendDown>(&action)) {
      if (stream != streams_.end()) stream->second.sink->Send(std::move(send->message));
    } else if (auto* close = std::get_if<CloseStream>(&action)) {
      if (stream != streams_.end()) stream->second.sink->Close(close->status);
    } else if (auto* save = std::get_if<SaveWorker>(&action)) {
      Batch batch;
      batch.workers.push_back(std::move(save->record));
      jobs_.Commit(std::move(batch), [this, worker_id, token = save->token](absl::Status status) {
        if (status.ok()) Do(worker_id, WorkerOf(worker_id).session->OnStored(token, StoreOutcome::kStored));
      });
    } else if (auto* change = std::get_if<ChangeJob>(&action)) {
      ChangeFor(worker_id, std::move(*change));
    } else if (auto* points = std::get_if<KeepPoints>(&action)) {
      KeepPointsOf(worker_id, *points);
    } else if (auto* log = std::get_if<KeepLog>(&action)) {
      KeepLogOf(worker_id, std::move(*log));
    } else {
      RequestPlan();
    }
  }
}

const v1::Attempt* ControllerLoop::AttemptOn(const std::string& worker_id, const v1::AttemptKey& key,
                                             int64_t* number) const {
  const absl::StatusOr<int64_t> parsed = JobNumber(key.job_id());
  if (!parsed.ok()) return nullptr;
  *number = *parsed;
  const v1::JobRecord* record = jobs_.Decided(*parsed);
  if (record == nullptr || key.attempt() < 1 || key.attempt() > record->attempts_size()) return nullptr;
  const v1::Attempt& attempt = record->attempts(key.attempt() - 1);
  const bool here = std::any_of(attempt.ranks().begin(), attempt.ranks().end(),
                                [&](const v1::RankAssignment& rank) { return rank.worker_id() == worker_id; });
  return attempt.epoch() == key.epoch() && here ? &attempt : nullptr;
}

absl::Status ControllerLoop::ApplyFor(const std::string& worker_id, int64_t number, JobEvent event,
                                      JobTable::Done done) {
  if (auto* reported = std::get_if<AttemptReported>(&event); reported && reported->state == v1::ATTEMPT_SUCCEEDED) {
    absl::Status result = CheckArtifact(reported->result);
    if (result.ok()) result = CheckBlobs(reported->result);
    if (!result.ok()) event = WithoutResult(std::move(*reported), result);
  }
  if (const auto* stored = std::get_if<CheckpointStored>(&event)) {
    v1::Artifact shards;
    shards.set_uri(stored->manifest.uri());
    for (const v1::CheckpointShard& shard : stored->manifest.shards()) {
      *shards.add_files() = shard.file();
    }
    RETURN_IF_ERROR(CheckArtifact(shards));
    RETURN_IF_ERROR(CheckBlobs(shards));
  }
  return jobs_.Change(number, event, {}, std::move(done));
}

void ControllerLoop::ChangeFor(const std::string& worker_id, ChangeJob change) {
  int64_t number = 0;
  const auto answer = [this, worker_id, token = change.token](StoreOutcome outcome) {
    stale_epochs_ += outcome == StoreOutcome::kStale ? 1 : 0;
    Do(worker_id, WorkerOf(worker_id).session->OnStored(token, outcome));
  };
  if (AttemptOn(worker_id, change.key, &number) == nullptr) return answer(StoreOutcome::kStale);
  const absl::Status status = ApplyFor(worker_id, number, std::move(change.event), [answer](absl::Status stored) {
    if (stored.ok()) answer(StoreOutcome::kStored);
  });
  const v1::Attempt* attempt = AttemptOn(worker_id, change.key, &number);
  if (!IsLive(attempt->state())) {
    const v1::Attempt* live = LiveAttempt(*jobs_.Decided(number));
    // Not where the job has its next attempt on the same worker already.
    if (live == nullptr || live->epoch() == change.key.epoch())
      WorkerOf(worker_id).session->Forget(change.key.job_id());
    RequestPlan();
  }
  if (status.ok()) return;
  spdlog::warn("worker {}: {}", worker_id, std::string(status.message()));
  answer(IsStale(status) ? StoreOutcome::kStale : StoreOutcome::kRefused);
}

void ControllerLoop::KeepBesideStore(const std::string& worker_id, int64_t token, const std::string& what,
                                     std::function<absl::Status()> write) {
  options_.post_logs([this, worker_id, token, what, write = std::move(write)] {
    // What cannot be written is lost, and said so: a full disk must not hold up the states behind it.
    if (const absl::Status status = write(); !status.ok()) spdlog::warn("{}: {}", what, std::string(status.message()));
    options_.post([this, worker_id, token] { KeptBesideStore(worker_id, token); });
  });
}

void ControllerLoop::KeptBesideStore(const std::string& worker_id, int64_t token) {
  Do(worker_id, WorkerOf(worker_id).session->OnStored(token, StoreOutcome::kStored));
}

void ControllerLoop::KeepPointsOf(const std::string& worker_id, const KeepPoints& keep) {
  int64_t number = 0;
  const v1::AttemptKey& key = keep.report.key();
  if (AttemptOn(worker_id, key, &number) == nullptr) return KeptBesideStore(worker_id, keep.token);
  const std::vector<v1::Progress> points(keep.report.points().begin(), keep.report.points().end());
  jobs_.ShowPoints(number, key.attempt(), points);
  KeepBesideStore(worker_id, keep.token, key.job_id() + ": points lost",
                  [this, key, points] { return logs_.AppendPoints(key.job_id(), key.attempt(), points).status(); });
}

void ControllerLoop::KeepLogOf(const std::string& worker_id, KeepLog keep) {
  int64_t number = 0;
  const v1::Attempt* attempt = AttemptOn(worker_id, keep.chunk.key(), &number);
  if (attempt == nullptr || keep.chunk.rank() < 0 || keep.chunk.rank() >= attempt->ranks_size()) {
    return KeptBesideStore(worker_id, keep.token);
  }
  const std::string what = keep.chunk.key().job_id() + ": log lost";
  KeepBesideStore(worker_id, keep.token, what, [this, chunk = std::move(keep.chunk)] {
    return logs_.AppendLog(chunk.key().job_id(), chunk.key().attempt(), chunk.rank(), chunk.offset(), chunk.data());
  });
  for (const auto& [watch, log] : log_watches_) {
    if (log.number == number) log.notify();
  }
}

}  // namespace studio::controller
