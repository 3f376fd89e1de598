// Simulated time: events in order of their time, each of one process that can pause and die.
//
//   Engine engine;
//   SimProcess agent;
//   engine.After(absl::Seconds(1), &agent, [&] { … });   // dropped if the agent dies before
//   agent.paused_until = engine.now() + absl::Seconds(30);
//   engine.RunUntil(end);
//
// A process dies by Kill, or in the midst of its own work by throwing Crash: the engine catches it and calls on_crash.
// Single-threaded. Deterministic: the same calls give the same order.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"

namespace studio::sim {

// Thrown through production code at a persistence point: nothing after it happens.
struct Crash {};

struct SimProcess {
  bool alive = false;
  // Counts lives: what an earlier one scheduled is void.
  int64_t life = 0;
  absl::Time paused_until = absl::InfinitePast();
  // Runs in the place of the dead process's rest.
  std::function<void()> on_crash = {};

  void Begin() {
    alive = true;
    ++life;
    paused_until = absl::InfinitePast();
  }
  void Kill() {
    alive = false;
    ++life;
  }
};

class Engine {
 public:
  using Task = std::function<void()>;

  absl::Time now() const { return now_; }
  // `process` null: the world's own, which never dies. Else it outlives the engine's run.
  void At(absl::Time time, SimProcess* process, Task task);
  void After(absl::Duration delay, SimProcess* process, Task task) { At(now_ + delay, process, std::move(task)); }
  // Runs what is due until then, or until `done`.
  void RunUntil(absl::Time end, const std::function<bool()>& done = {});
  // Forgets what is to come, so that what it refers to may go.
  void Clear();
  int64_t events() const { return events_; }

 private:
  struct Event {
    absl::Time time;
    uint64_t number;
    SimProcess* process;
    int64_t life;
    Task task;
  };
  static bool Later(const Event& a, const Event& b) { return a.time != b.time ? a.time > b.time : a.number > b.number; }

  absl::Time now_ = absl::FromUnixSeconds(1'000'000'000);
  std::vector<Event> heap_;
  uint64_t next_number_ = 0;
  int64_t events_ = 0;
};

}  // namespace studio::sim
