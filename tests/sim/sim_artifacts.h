// Transfers to the controller's content store, and the background that they block: work that finds the controller out
// of reach is done again later.
#pragma once

#include <map>
#include <string>

#include "common/env/env.h"
#include "tests/sim/controller_host.h"
#include "tests/sim/engine.h"
#include "tests/sim/network.h"
#include "worker/agent/artifacts.h"
#include "worker/agent/background.h"

namespace studio::sim {

// Looks like a SHA-256, and tells contents apart. For a thousand contents a run.
std::string HashOf(const std::string& bytes);

class SimArtifacts : public worker::Artifacts, public worker::Background {
 public:
  SimArtifacts(Engine& engine, SimProcess& agent, Env& env, Cable& cable, ControllerHost& controller)
      : engine_(engine), agent_(agent), env_(env), cable_(cable), controller_(controller) {}

  void SetAddress(const std::string&) override { known_ = true; }
  absl::Status Fetch(const v1::Artifact& artifact, const std::string& folder,
                     const std::atomic<bool>& cancelled) override;
  absl::StatusOr<v1::Artifact> Publish(const std::string& folder, const std::atomic<bool>& cancelled) override;
  void Release(const v1::Artifact&) override {}

  void Run(Work work) override;

 private:
  bool Reachable();

  Engine& engine_;
  SimProcess& agent_;
  Env& env_;
  Cable& cable_;
  ControllerHost& controller_;
  bool known_ = false;
  // The work of the moment would block.
  bool blocked_ = false;
};

}  // namespace studio::sim
