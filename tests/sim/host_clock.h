// A machine's clocks: the one that only goes forward, too fast or too slow, and stands still while the machine sleeps;
// and the one that people set.
#pragma once

#include "absl/time/time.h"
#include "tests/sim/engine.h"

namespace studio::sim {

class HostClock {
 public:
  HostClock(const Engine& engine, double rate) : engine_(engine), rate_(rate), start_(engine.now()) {}

  absl::Time now() const { return start_ + (engine_.now() - start_) * rate_ - slept_; }
  absl::Time wall_time() const { return now() + set_by_; }
  // How long until `time`, by the engine.
  absl::Duration Until(absl::Time time) const { return (time - now()) / rate_ + absl::Nanoseconds(1); }

  void Sleep(absl::Duration length) { slept_ += length * rate_; }
  void SetWallClock(absl::Duration by) { set_by_ += by; }

 private:
  const Engine& engine_;
  const double rate_;
  const absl::Time start_;
  absl::Duration slept_;
  absl::Duration set_by_;
};

}  // namespace studio::sim
