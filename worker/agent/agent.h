// The worker: a session with its controller, a journal, and the attempts that run here.
//
//   Agent agent({.hello = hello, .seed = random}, machine, *journal, [&](ControllerLink::Callbacks callbacks) { … });
//   agent.Start();
//   loop.Run();          // until Drain() is done or the controller refuses this worker
//
// What the controller sends is journalled before anything is done about it; what is reported is journalled before it
// is sent. Trainers run on while the controller is away.
// Threading: belongs to the loop's thread. What the options refer to outlives it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/metrics/metrics.h"
#include "worker/agent/attempt_run.h"
#include "worker/agent/controller_link.h"
#include "worker/agent/journal.h"
#include "worker/session/worker_session.h"

namespace studio::worker {

class Agent : public AttemptListener {
 public:
  struct Options {
    // Who this worker is and what it has.
    v1::Hello hello;
    uint64_t seed = 0;
    // For ranks to checkpoint in when the worker drains.
    absl::Duration drain_grace = absl::Seconds(60);
  };

  Agent(Options options, Machine machine, Journal& journal, const ControllerLink::Maker& make_link);
  ~Agent() override;

  // Every rank of an earlier start must be dead: the caller holds the lock that they shared.
  void Start();
  // Hands every attempt back at a checkpoint, then ends the loop. The second time: at once.
  void Drain();
  // What this worker's promises rest on is broken: ends the loop with it.
  void Fail(const absl::Status& why);

  // What the cache must leave alone.
  CacheUse InUse() const;
  // What Prometheus is told (docs/metrics.md).
  void Describe(MetricsText& text) const;

  // OK after a drain; why not, else.
  const absl::Status& outcome() const { return outcome_; }

  void OnAttemptEvent(v1::AttemptEvent event) override;
  void OnCheckpointWritten(v1::CheckpointWritten written) override;
  void OnProgress(v1::ProgressReport report) override;
  void OnLog(v1::LogChunk chunk) override;
  void OnEnded(const v1::AttemptKey& key) override;

 private:
  void Do(SessionActions actions);
  void DoOne(SessionAction& action);
  void Handle(const v1::WorkerDown& down);
  void HandleAssign(const v1::Assign& assign);
  void StartAttempt(const v1::Assign& assign);
  void EndDead(const AttemptId& id, const v1::AttemptKey& key);
  AttemptRun* Find(const v1::AttemptKey& key);
  void Record(const JournalRecord& record);
  void UpdateHello();
  void SetTimer();
  void Tick();
  void StopThoseAlone();
  void HoldOutputOfRanks();
  void MaybeDrained();
  void End(absl::Status outcome);

  Options options_;
  const Machine machine_;
  Journal& journal_;
  WorkerSession session_;
  const std::unique_ptr<ControllerLink> link_;

  std::map<AttemptId, std::shared_ptr<AttemptRun>> attempts_;
  // Assigned while an earlier attempt of the same job still had processes here.
  std::map<AttemptId, v1::Assign> waiting_;
  // Reported ends that nobody acknowledged: event id → attempt.
  std::map<int64_t, v1::RunningAttempt> ended_;
  Loop::Timer timer_ = {};
  std::map<std::pair<v1::AttemptState, v1::Reason>, int64_t> ends_;  // since the start
  int64_t left_out_ = 0;  // evaluations and samples that nobody could be told
  bool held_ = false;     // the ranks' output
  // What is left to do, in order; what an action leads to comes after what was there.
  std::deque<SessionAction> actions_;
  bool doing_ = false;
  bool draining_ = false;
  bool ending_ = false;
  absl::Status outcome_;
};

}  // namespace studio::worker
