// One thread that waits for descriptors, times and posted functions: everything the agent decides happens on it.
//
//   EventLoop loop;
//   loop.Watch(rank.channel(), [&] { Read(); });
//   loop.At(now + absl::Seconds(5), [&] { Tick(); });
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

namespace studio::worker {

class EventLoop {
 public:
  using Callback = std::function<void()>;
  // Names a timer; times may be equal.
  using Timer = std::pair<absl::Time, uint64_t>;

  EventLoop();

  // Calls back whenever the descriptor is readable or at its end, until Unwatch.
  void Watch(int fd, Callback readable);
  void Unwatch(int fd);

  Timer At(absl::Time time, Callback callback);
  // A timer that has rung, or never was, is fine.
  void Cancel(const Timer& timer) { timers_.erase(timer); }

  void Post(Callback callback);
  void Stop();

  void Run();

 private:
  void RunPosted();
  void RunTimers();
  void Wait();

  UniqueFd wake_read_, wake_write_;
  std::map<int, Callback> watched_;
  std::map<Timer, Callback> timers_;
  uint64_t next_timer_ = 1;

  std::mutex mutex_;
  std::deque<Callback> posted_;
  bool stopped_ = false;
};

}  // namespace studio::worker
