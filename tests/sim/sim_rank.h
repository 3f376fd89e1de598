// Trainer processes by script: steps, checkpoints, crashes, out of memory; and the agent's handles on them. A process
// belongs to the machine: it outlives an agent that is killed, by moments, and dies with the machine.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/env/memory_env.h"
#include "tests/sim/engine.h"
#include "tests/sim/history.h"
#include "tests/sim/random.h"
#include "tests/sim/scenario.h"
#include "worker/agent/rank_process.h"

namespace studio::sim {

// What a checkpoint or result of a job holds: one that a run resumes from must be that job's, at that step.
std::string WeightsAt(const std::string& job_name, int64_t step);

class RankHost;

class SimRank : public std::enable_shared_from_this<SimRank> {
 public:
  SimRank(RankHost& host, int pid, v1::TrainerTask task, bool prepares, worker::RankProcess::Callbacks callbacks);
  void Begin();
  // Ends it `after` that; the first end counts.
  void EndSoon(absl::Duration after, ProcessEnd end);
  void Order(const v1::TrainerDown& order);
  // Nobody hears it any more: its agent's end of the socket is closed.
  void LoseAgent(bool agent_lives);
  // With the machine: at once, and nobody is told.
  void Vanish();

  const v1::TrainerTask& task() const { return task_; }
  int pid() const { return pid_; }
  bool ended() const { return !process_.alive; }
  SimProcess& process() { return process_; }

 private:
  void Say(v1::TrainerUp up);
  void Step();
  void WriteCheckpoint();
  void Finish(bool stopped);
  // True: the script has it end here.
  bool Fails();

  RankHost& host_;
  const int pid_;
  const v1::TrainerTask task_;
  const bool prepares_;
  const worker::RankProcess::Callbacks callbacks_;
  SimProcess process_;
  int64_t step_ = 0;
  int64_t saved_ = 0;
  bool stopping_ = false;
  bool discard_ = false;
  bool heard_ = true;  // the agent has its handle
  bool ending_ = false;
};

// The processes of one machine.
class RankHost : public worker::RankLauncher {
 public:
  RankHost(Engine& engine, History& history, MemoryEnv& files, SimProcess& agent, std::string worker, uint64_t seed,
           const std::map<std::string, JobScript>& scripts)
      : engine_(engine),
        history_(history),
        files_(files),
        agent_(agent),
        worker_(std::move(worker)),
        random_(seed, worker_ + "/ranks"),
        scripts_(scripts) {}

  absl::StatusOr<std::unique_ptr<worker::RankProcess>> Launch(LaunchSpec spec,
                                                              worker::RankProcess::Callbacks callbacks) override;
  absl::StatusOr<worker::StoreSocket> ListenForStore() override {
    worker::StoreSocket socket;
    socket.port = 1;  // nobody listens: simulated ranks need no store
    return socket;
  }

  bool any() const { return !ranks_.empty(); }
  void LoseAgent();
  void VanishAll();
  void Pause(absl::Time until);
  void KillOne(int64_t which);

 private:
  friend class SimRank;

  Engine& engine_;
  History& history_;
  MemoryEnv& files_;
  SimProcess& agent_;
  const std::string worker_;
  Random random_;
  const std::map<std::string, JobScript>& scripts_;
  std::map<int, std::shared_ptr<SimRank>> ranks_;
  int next_pid_ = 100;
};

}  // namespace studio::sim
