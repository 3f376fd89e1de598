// The agent's Loop over the engine. Dies with its agent.
#pragma once

#include <map>
#include <utility>

#include "tests/sim/engine.h"
#include "tests/sim/host_clock.h"
#include "worker/agent/loop.h"

namespace studio::sim {

class SimLoop : public worker::Loop {
 public:
  SimLoop(Engine& engine, SimProcess& agent, const HostClock& clock, std::function<void()> on_stop)
      : engine_(engine), agent_(agent), clock_(clock), on_stop_(std::move(on_stop)) {}

  absl::Time now() const override { return clock_.now(); }
  absl::Time wall_time() const override { return clock_.wall_time(); }
  Timer At(absl::Time time, Callback callback) override {
    const Timer timer(time, next_timer_++);
    timers_[timer] = std::move(callback);
    if (time < absl::InfiniteFuture()) Schedule(timer);
    return timer;
  }
  void Cancel(const Timer& timer) override { timers_.erase(timer); }
  void Post(Callback callback) override { engine_.At(engine_.now(), &agent_, std::move(callback)); }
  void Stop() override { engine_.At(engine_.now(), nullptr, on_stop_); }

 private:
  void Schedule(const Timer& timer) {
    engine_.After(std::max(clock_.Until(timer.first), absl::ZeroDuration()), &agent_, [this, timer] {
      const auto found = timers_.find(timer);
      if (found == timers_.end()) return;
      if (clock_.now() < timer.first) return Schedule(timer);  // the machine slept meanwhile
      const Callback callback = std::move(found->second);
      timers_.erase(found);
      callback();
    });
  }

  Engine& engine_;
  SimProcess& agent_;
  const HostClock& clock_;
  const std::function<void()> on_stop_;
  std::map<Timer, Callback> timers_;
  uint64_t next_timer_ = 1;
};

}  // namespace studio::sim
