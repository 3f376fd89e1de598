// The time of day behind an interface, so that what waits can be tested without waiting.
//
//   explicit Session(Clock& clock);   // main.cc hands it a RealClock, a test a SimulatedClock
//   clock.Advance(absl::Seconds(15)); // a test only
//
// Threading: RealClock and SteadyClock are safe from any thread, SimulatedClock belongs to one.
#pragma once

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status/check.h"

namespace studio {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Now() const = 0;
};

class RealClock : public Clock {
 public:
  absl::Time Now() const override { return absl::Now(); }
};

// The time of day when it was made, and from there on as the machine runs: setting the machine's clock does not move
// it, and it does not count a suspended machine's sleep. For whatever waits.
class SteadyClock : public Clock {
 public:
  absl::Time Now() const override { return wall_ + absl::FromChrono(std::chrono::steady_clock::now() - steady_); }

 private:
  const absl::Time wall_ = absl::Now();
  const std::chrono::steady_clock::time_point steady_ = std::chrono::steady_clock::now();
};

// Stands still until told.
class SimulatedClock : public Clock {
 public:
  explicit SimulatedClock(absl::Time start = absl::FromUnixSeconds(1'000'000'000)) : now_(start) {}

  absl::Time Now() const override { return now_; }

  void Advance(absl::Duration by) {
    STUDIO_CHECK(by >= absl::ZeroDuration()) << "time does not go back: " << absl::FormatDuration(by);
    now_ += by;
  }

 private:
  absl::Time now_;
};

}  // namespace studio
