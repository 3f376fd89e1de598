// The time of day behind an interface, so that what waits can be tested without waiting.
//
//   explicit Session(Clock& clock);   // main.cc hands it a RealClock, a test a SimulatedClock
//   clock.Advance(absl::Seconds(15)); // a test only
//
// Threading: RealClock is safe from any thread, SimulatedClock belongs to one.
#pragma once

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
