// Where the agent's decisions run, one after the other: its times and its posted functions. EventLoop is the real one;
// the simulation has one whose time it sets.
//
//   Loop::Timer timer = loop.At(loop.now() + absl::Seconds(5), [&] { Tick(); });
//   loop.Post([&] { OnUploaded(); });
//
// Threading: Post and Stop are safe from any thread; everything else belongs to the thread that the callbacks run on.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "absl/time/time.h"

namespace studio::worker {

class Loop {
 public:
  using Callback = std::function<void()>;
  // Names a timer; times may be equal.
  using Timer = std::pair<absl::Time, uint64_t>;

  virtual ~Loop() = default;

  // Never goes back and never jumps because somebody set a clock: for waiting. What people read comes from wall_time.
  virtual absl::Time now() const = 0;
  virtual absl::Time wall_time() const = 0;

  virtual Timer At(absl::Time time, Callback callback) = 0;
  // A timer that has rung, or never was, is fine.
  virtual void Cancel(const Timer& timer) = 0;

  virtual void Post(Callback callback) = 0;
  virtual void Stop() = 0;
};

}  // namespace studio::worker
