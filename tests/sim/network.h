// Streams between agents and the controller: in order each, late, and broken at any moment. What was on its way when a
// stream broke is lost; what an old stream still holds arrives beside what a new one brings.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "controller/loop/controller_loop.h"
#include "tests/sim/controller_host.h"
#include "tests/sim/engine.h"
#include "tests/sim/history.h"
#include "tests/sim/random.h"
#include "worker/agent/controller_link.h"

namespace studio::sim {

// The state of one worker's way to the controller.
struct Cable {
  Cable(uint64_t seed, const std::string& worker) : random(seed, worker + "/cable") {}

  absl::Duration Delay() { return slow ? random.Ms(1, 5000) : random.Ms(0, 20); }

  Random random;
  absl::Time up_blocked_until = absl::InfinitePast();
  absl::Time down_blocked_until = absl::InfinitePast();
  bool slow = false;
  bool duplicates = false;
};

class SimStream;

// The agent's end. Dies with its agent.
class SimLink : public worker::ControllerLink {
 public:
  SimLink(Engine& engine, History& history, std::string worker, Cable& cable, SimProcess& agent,
          ControllerHost& controller, std::function<void(const v1::WorkerUp&)> on_send, Callbacks callbacks);
  ~SimLink() override;

  void Dial() override;
  void Send(v1::WorkerUp message) override;
  void HangUp() override;

  // The stream of the moment breaks: each end learns it in its own time.
  void Break();
  // The agent is dead: the controller learns it late, or (`silently`) never.
  void Abandon(bool silently);

 private:
  friend class SimStream;

  Engine& engine_;
  History& history_;
  const std::string worker_;
  Cable& cable_;
  SimProcess& agent_;
  ControllerHost& controller_;
  // Sees what the agent says.
  const std::function<void(const v1::WorkerUp&)> on_send_;
  const Callbacks callbacks_;
  std::shared_ptr<SimStream> stream_;
};

}  // namespace studio::sim
