// The controller's one thread of decisions: snapshot → plan → persist → send. The gRPC services post to it, and it
// answers through callbacks; it has no threads, no gRPC and no clock of its own, so that a simulation can run it.
//
//   ControllerLoop loop(store, logs, {.now = …, .post = …});
//   RETURN_IF_ERROR(loop.Start());
//   loop.Submit("local", request, [](absl::StatusOr<v1::SubmitJobResponse> response) { … });
//   executor: absl::Duration until_next = loop.Tick();
//
// Rules that hold everywhere here: nothing is answered or sent before its record is durable (replies run from the
// store's answer); every event of a job goes through job_machine; timers come from the sessions. After the store failed
// nothing is answered any more but with its error, and `on_failure` has run.
//
// Belongs to one thread (the one that `post` posts to). Store and logs outlive it; `logs` is used on `post_logs`.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/metrics/metrics.h"
#include "controller/logs/log_keeper.h"
#include "controller/loop/job_queue.h"
#include "controller/loop/job_table.h"
#include "controller/session/worker_session.h"
#include "controller/store/store.h"

namespace studio::controller {

struct LoopOptions {
  // Never goes back.
  std::function<absl::Time()> now;
  // Runs tasks in order on the loop's thread, later.
  Post post;
  // Likewise, on the thread of the logs. May be the same.
  Post post_logs;
  // Whether a blob of this hash is in the content store.
  std::function<bool(const v1::FileRef&)> has_blob;
  // Removes a blob that was neither put nor asked for since so long, and returns the bytes that this freed. Called only
  // for what no record names. Empty: nothing is ever collected.
  std::function<int64_t(const std::string& sha256, absl::Duration untouched)> remove_blob = {};
  // The store failed: end the process, and start again from what is stored.
  std::function<void(absl::Status)> on_failure;
  SessionOptions session;
  // A stopped attempt's processes are killed after this long.
  absl::Duration stop_grace = absl::Seconds(30);
  // So many jobs that ended stay in memory, and so long after their end; then they go to the archive.
  int64_t keep_jobs = 10'000;
  absl::Duration keep_ended = absl::InfiniteDuration();
  // Of a job that is archived: so long after its end its request id still finds it.
  absl::Duration keep_requests = absl::Hours(7 * 24);
  // How long a blob stays after the last record that named it.
  absl::Duration superseded_grace = absl::Minutes(10);
};

// The sending end of one worker's stream. Calls after its end do nothing.
class StreamSink {
 public:
  virtual ~StreamSink() = default;
  virtual void Send(v1::WorkerDown message) = 0;
  virtual void Close(absl::Status status) = 0;
};

// What a reader of logs must know to go on.
struct LogState {
  int attempts = 0;
  bool terminal = false;
};

class ControllerLoop {
 public:
  template <typename T>
  using Reply = std::function<void(absl::StatusOr<T>)>;

  ControllerLoop(Store& store, LogKeeper& logs, LoopOptions options);

  // Loads what is stored. Every attempt counts as just renewed.
  absl::Status Start();

  // The same request id of the same owner is the same job.
  void Submit(const std::string& owner, v1::SubmitJobRequest request, Reply<v1::SubmitJobResponse> reply);
  void Retry(const std::string& owner, const v1::RetryJobRequest& request, Reply<v1::SubmitJobResponse> reply);
  void Cancel(const std::string& id, Reply<v1::JobRecord> reply);
  // Of those in memory.
  absl::StatusOr<v1::JobRecord> Get(const std::string& id) const;
  // Also in the archive.
  void Find(const std::string& id, Reply<v1::JobRecord> reply);
  // Which of these jobs are in memory no more.
  std::vector<std::string> NotInMemory(const std::vector<std::string>& ids) const;
  absl::StatusOr<v1::ListJobsResponse> List(const v1::ListJobsRequest& request) const;
  v1::ListWorkersResponse Workers() const;
  // What Prometheus is told of jobs and workers (docs/metrics.md).
  void Describe(MetricsText& text) const;
  // `who` vouches that nothing of this worker runs any more. FailedPrecondition while it is in contact.
  void ConfirmDead(const std::string& who, const std::string& worker_id, Reply<v1::WorkerRecord> reply);

  absl::StatusOr<int64_t> Watch(const std::string& id, int64_t after_revision, JobTable::Watcher watcher);
  void Unwatch(int64_t watch) { jobs_.Unwatch(watch); }
  // `watcher` runs by `post_logs`: now, and whenever there may be more to read.
  absl::StatusOr<int64_t> WatchLogs(const std::string& id, std::function<void(LogState)> watcher);
  void UnwatchLogs(int64_t watch);

  // Blobs that nobody has put or asked for since `untouched`: those that no record names go, unless a worker that is
  // out of contact may come back with word of them.
  void CollectUploads(const std::vector<std::string>& sha256s, absl::Duration untouched);

  int64_t OpenStream(std::shared_ptr<StreamSink> sink);
  void OnStreamMessage(int64_t stream, const v1::WorkerUp& message);
  void OnStreamClosed(int64_t stream);
  // Messages of the stream that wait to be durable: who reads it waits where they are many.
  size_t Unsettled(int64_t stream) const;
  // Ends every worker's stream, as the controller goes away.
  void CloseStreams(const absl::Status& why);

  // Does what is due, and says how long until the next thing is. Called much later than that, it takes the time as its
  // own absence, which fences nobody.
  absl::Duration Tick();

 private:
  struct Stream {
    std::shared_ptr<StreamSink> sink;
    std::string worker_id;  // empty until it greeted
  };
  struct Worker {
    std::unique_ptr<WorkerSession> session;
    int64_t stream = 0;
    absl::Time greeted = absl::InfinitePast();
  };
  struct LogWatch {
    int64_t number = 0;
    int64_t job_watch = 0;
    std::function<void()> notify;
  };

  // controller_loop.cc
  void RequestPlan();
  void RunPlan();
  void Start(const std::string& job_id, std::vector<v1::RankAssignment> ranks);
  void Deliver(int64_t number);
  // The job as its assignment tells it to the worker.
  static v1::Assign AssignmentOf(const v1::JobRecord& record);
  static absl::Duration FenceOf(const v1::JobRecord& record);
  v1::StopAttempt StopFor(const v1::JobRecord& record) const;
  Worker& WorkerOf(const std::string& id);
  absl::Status CheckBlobs(const v1::Artifact& artifact) const;

  // submits.cc
  // Two people's request ids have nothing to do with each other.
  static std::string KeyOf(const std::string& owner, const std::string& request_id);
  // Empty: a request that is never repeated.
  static absl::StatusOr<std::string> RequestKey(const std::string& owner, const std::string& request_id);
  absl::StatusOr<v1::JobRecord> NewRecord(const std::string& owner, v1::SubmitJobRequest request) const;
  absl::Status ResolveInputs(v1::JobRecord& record) const;
  // True where the request was answered before, or is being answered.
  bool Replay(const std::string& key, Reply<v1::SubmitJobResponse>& reply);
  void AddJob(v1::JobRecord record, const std::string& key, Reply<v1::SubmitJobResponse> reply);

  // retain.cc
  // When the next job is due.
  absl::Time ArchiveOldJobs(absl::Time now);
  absl::Time ForgetRequests(absl::Time now);

  // collect.cc
  // When the next blob is due.
  absl::Time CollectSuperseded(absl::Time now);
  void RemoveUnlessNamed(const std::string& sha256, absl::Duration untouched);
  // Whether a worker may have word of what it has uploaded.
  bool AnyHasWordToCome(absl::Time now) const;

  // worker_streams.cc
  void Greet(int64_t stream, const v1::WorkerUp& message);
  void Do(const std::string& worker_id, SessionActions actions);
  void ChangeFor(const std::string& worker_id, ChangeJob change);
  absl::Status ApplyFor(const std::string& worker_id, int64_t number, JobEvent event, JobTable::Done done);
  void KeepPointsOf(const std::string& worker_id, const KeepPoints& keep);
  void KeepLogOf(const std::string& worker_id, KeepLog keep);
  // `write` runs on the thread of the logs; only then is the worker told that it may forget what it sent.
  void KeepBesideStore(const std::string& worker_id, int64_t token, const std::string& what,
                       std::function<absl::Status()> write);
  void KeptBesideStore(const std::string& worker_id, int64_t token);
  // The attempt that the key names, if this worker has a part in it. Also an ended one.
  const v1::Attempt* AttemptOn(const std::string& worker_id, const v1::AttemptKey& key, int64_t* number) const;

  LogKeeper& logs_;
  Store& store_;
  const LoopOptions options_;
  JobQueue queue_;
  JobTable jobs_;
  std::map<std::string, std::string> requests_;  // request key → job id, decided
  int64_t last_job_ = 0;
  int64_t last_epoch_ = 0;
  std::map<std::string, Worker> workers_;
  std::map<int64_t, Stream> streams_;
  int64_t next_stream_ = 1;
  int64_t stale_epochs_ = 0;                            // words of attempts that were over, since the start
  std::set<std::pair<int64_t, std::string>> expiring_;  // Unix second, request key: those of archived jobs
  bool archiving_ = false;
  int64_t archived_jobs_ = 0;
  struct Unnamed {
    std::string sha256;
    absl::Time since;
  };
  std::deque<Unnamed> unnamed_;
  int64_t collected_blobs_ = 0, collected_bytes_ = 0;
  bool plan_requested_ = false;
  absl::Time next_plan_ = absl::InfinitePast();
  // When Tick asked to run again: much later means that this process stood still.
  absl::Time next_tick_ = absl::InfiniteFuture();
  std::map<int64_t, LogWatch> log_watches_;
  int64_t next_log_watch_ = 1;
};

}  // namespace studio::controller
