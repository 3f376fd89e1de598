// One thread that runs what is posted to it, in order, and wakes by itself when time matters.
//
//   Executor executor([&] { return loop.Tick(); });   // after each round: does what is due, says when the next is
//   executor.Post([&] { loop.Submit(…); });
//
// Post is thread-safe and never blocks; after Stop it drops what it is given. Everything that the controller decides
// happens on one such thread, so that no decision needs a lock.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/time/time.h"

namespace studio::controller {

class Executor {
 public:
  // `tick` returns how long until it wants to run again; InfiniteDuration: not by itself. May be empty.
  explicit Executor(std::function<absl::Duration()> tick = {});
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void Post(std::function<void()> task);
  // Runs what was posted before, then ends the thread. Never call it on the executor itself.
  void Stop();

 private:
  void Run();

  const std::function<absl::Duration()> tick_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::function<void()>> tasks_;  // guarded by mutex_
  bool stopping_ = false;                     // guarded by mutex_
  std::thread thread_;
};

}  // namespace studio::controller
