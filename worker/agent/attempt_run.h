// One attempt on this worker: brings its inputs here, prepares the data, starts this worker's ranks, and carries what
// they say to the listener until the last process is gone.
//
//   Fetching ──▶ DataPrep ──▶ Ranks ──▶ Publishing ──▶ Over        OnEnded is the last call, and comes once
//      └───────────┴────────────┴─────────┴── Stop (gently), EndNow (firmly, without a word), a failure
//
// A stop asks the ranks and kills them when the grace is over. The end waits for checkpoints that are on their way:
// they are worth more before it than after.
// Threading: belongs to the loop's thread. Owned by shared_ptr: work in the background keeps it alive.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/env/env.h"
#include "proto/studio/v1/worker.pb.h"
#include "worker/agent/artifacts.h"
#include "worker/agent/background.h"
#include "worker/agent/cache_use.h"
#include "worker/agent/end_reason.h"
#include "worker/agent/loop.h"
#include "worker/agent/rank_log.h"
#include "worker/agent/rank_process.h"

namespace studio::worker {

// What an attempt runs on. Everything outlives the attempts.
struct Machine {
  Loop& loop;
  Background& background;
  Env& env;
  RankLauncher& ranks;
  Artifacts& artifacts;
  std::string worker_id;
  std::string state_dir;
  std::vector<std::string> shared_roots;
  std::string trainer;
  // Empty: the trainer needs no data.
  std::string dataprep;
  // Every process inherits it.
  int ranks_lock_fd = -1;
  // What jobs may find here.
  v1::Inventory inventory;
};

class AttemptListener {
 public:
  virtual ~AttemptListener() = default;
  virtual void OnAttemptEvent(v1::AttemptEvent event) = 0;
  virtual void OnCheckpointWritten(v1::CheckpointWritten written) = 0;
  virtual void OnProgress(v1::ProgressReport report) = 0;
  virtual void OnLog(v1::LogChunk chunk) = 0;
  // No process of it is left; its end was the last event, unless it was ended without a word.
  virtual void OnEnded(const v1::AttemptKey& key) = 0;
};

class AttemptRun : public std::enable_shared_from_this<AttemptRun> {
 public:
  AttemptRun(const Machine& machine, v1::Assign assign, AttemptListener& listener);

  void Start();
  void Stop(const v1::Stop& stop, absl::Duration grace);
  // Its epoch is over: every process dies now and nothing is reported.
  void EndNow();
  void OnRecorded(int64_t step);
  // Its ranks wait with what they print.
  void HoldOutput(bool hold);

  // Adds what the cache must leave alone.
  void AddUse(CacheUse& use) const;

  const v1::AttemptKey& key() const { return assign_.key(); }
  const v1::Assign& assign() const { return assign_; }
  v1::AttemptState state() const { return state_; }
  bool over() const { return over_; }
  bool stopping() const { return stop_.has_value(); }

 private:
  struct Rank {
    v1::RankAssignment assignment;
    std::unique_ptr<RankLog> log;
    std::unique_ptr<RankProcess> process;
    v1::AttemptState state = v1::ATTEMPT_STARTING;
    RankEvidence evidence;
    bool ended = false;
  };
  struct Failed {
    v1::Reason reason;
    std::string message;
    int rank = -1;
    ProcessEnd end = {};
    bool lost_peers = false;
  };
  struct Publication {
    int64_t step;  // of a checkpoint; -1: the result
    std::function<std::function<void()>()> work;
  };

  void FetchInputs();
  absl::Status FetchCheckpoint(const std::string& resume_dir);
  void StartDataPrep();
  void StartRanks();
  absl::StatusOr<std::unique_ptr<RankProcess>> Launch(const std::string& program, Rank& rank, bool is_rank);
  void OnRankEvent(Rank& rank, const v1::TrainerUp& up);
  void OnRankEnd(Rank& rank, const ProcessEnd& end);
  void OnPrepEnd(Rank& rank, const ProcessEnd& end);
  void OnOutput(Rank& rank, std::string_view bytes);
  void SpeakForAll(const v1::TrainerUp& up);
  void Judge(Rank& rank, const ProcessEnd& end, const std::string& what);

  void PublishCheckpoint(v1::CheckpointManifest manifest);
  void PublishResult();
  void PumpPublications();

  void ReleaseOlderThan(int64_t step);
  void ReleaseAll();
  void KillUnlessGone(Rank& rank);

  void KillAll();
  void FailWith(Failed failed);
  void MaybeFinish();
  void Finish();
  void ReportState(v1::AttemptState state);
  v1::AttemptEvent NewEvent() const;
  std::string OutDir() const { return dir_ + "/out"; }

  const Machine& machine_;
  const v1::Assign assign_;
  AttemptListener& listener_;
  const std::string dir_;

  v1::AttemptState state_ = v1::ATTEMPT_ASSIGNED;
  absl::Time began_ = absl::InfiniteFuture();  // time of day
  v1::Job local_job_;
  std::vector<std::string> input_folders_;
  std::string resume_dir_;
  // One process of data preparation, then this worker's ranks.
  std::vector<std::unique_ptr<Rank>> ranks_;
  // Where they meet; the socket is rank 0's once that has started.
  v1::Rendezvous rendezvous_;
  StoreSocket store_;

  std::optional<Failed> failed_;
  // The ranks that are left were killed: their ends are no cause.
  bool killed_ = false;
  std::optional<v1::Stop> stop_;
  std::string stop_note_;
  Loop::Timer grace_timer_ = {};
  Loop::Timer cause_timer_ = {};
  bool wordless_ = false;
  bool over_ = false;

  std::deque<Publication> publications_;
  bool publishing_ = false;
  bool result_wanted_ = false;
  v1::Artifact result_;
  int notes_ = 0;
  // Checkpoints that were handed over, by step: this machine's copies go when a newer one is recorded.
  std::map<int64_t, v1::Artifact> published_;
  // Ends work in the background.
  const std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);
};

// Where an attempt keeps its files, below the worker's state folder.
std::string AttemptDir(const std::string& state_dir, const v1::AttemptKey& key);

}  // namespace studio::worker
