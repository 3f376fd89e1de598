// One thread that waits for descriptors, times and posted functions: everything the agent decides happens on it.
//
//   EventLoop loop;
//   loop.Watch(rank.channel(), [&] { Read(); });
//   loop.At(loop.now() + absl::Seconds(5), [&] { Tick(); });
//   loop.Run();                                  // until Stop()
//   loop.Post([&] { OnUploaded(); });            // from any other thread
//
// Threading: Post and Stop are safe from any thread; everything else belongs to the thread that runs the loop.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "absl/time/time.h"
#include "common/env/unique_fd.h"
#include "common/time/clock.h"
#include "worker/agent/loop.h"

namespace studio::worker {

class EventLoop : public Loop {
 public:
  EventLoop();

  // Calls back whenever the descriptor is readable or at its end, until Unwatch.
  void Watch(int fd, Callback readable);
  void Unwatch(int fd);

  absl::Time now() const override { return clock_.Now(); }
  absl::Time wall_time() const override { return RealClock().Now(); }
  Timer At(absl::Time time, Callback callback) override;
  void Cancel(const Timer& timer) override { timers_.erase(timer); }
  void Post(Callback callback) override;
  void Stop() override;

  void Run();

 private:
  void RunPosted();
  void RunTimers();
  void Wait();

  const SteadyClock clock_;
  UniqueFd wake_read_, wake_write_;
  std::map<int, Callback> watched_;
  std::map<Timer, Callback> timers_;
  uint64_t next_timer_ = 1;

  std::mutex mutex_;
  std::deque<Callback> posted_;
  bool stopped_ = false;
};

}  // namespace studio::worker
