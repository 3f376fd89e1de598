// A worker's machine: starts the agent as worker/agent/main.cc does, keeps its disk, its ranks and its clocks, and has
// it fail.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "common/env/memory_env.h"
#include "tests/sim/controller_host.h"
#include "tests/sim/engine.h"
#include "tests/sim/history.h"
#include "tests/sim/host_clock.h"
#include "tests/sim/network.h"
#include "tests/sim/scenario.h"
#include "tests/sim/sim_artifacts.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_rank.h"
#include "worker/agent/agent.h"
#include "worker/agent/journal.h"

namespace studio::sim {

class WorkerHost {
 public:
  WorkerHost(Engine& engine, History& history, ControllerHost& controller, uint64_t seed, int number, int devices,
             const std::map<std::string, JobScript>& scripts);

  void Boot();
  void Suffer(const Fault& fault);
  // What lasted is over; what is down comes up by itself.
  void Heal();
  // For good: nothing of it runs or is waited for.
  void TurnOff();
  int64_t journal_bytes();

 private:
  void StartAgent();
  // SIGKILL, or the agent's own end.
  void AgentDies(bool by_itself);
  void Restart(absl::Duration after);

  Engine& engine_;
  History& history_;
  ControllerHost& controller_;
  const uint64_t seed_;
  const std::string name_;
  const int devices_;
  Random random_;
  MemoryEnv files_;
  SimDisk disk_{files_};
  HostClock clock_;
  Cable cable_;
  SimProcess process_;
  RankHost ranks_;
  int boots_ = 0;
  bool lost_ = false;
  bool starting_ = false;

  std::unique_ptr<SimLoop> loop_;
  std::unique_ptr<SimArtifacts> artifacts_;
  std::unique_ptr<worker::Journal> journal_;
  std::unique_ptr<worker::Agent> agent_;
  SimLink* link_ = nullptr;
};

}  // namespace studio::sim
