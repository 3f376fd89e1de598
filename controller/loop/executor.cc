#include "controller/loop/executor.h"

#include <algorithm>
#include <chrono>

namespace studio::controller {

Executor::Executor(std::function<absl::Duration()> tick) : tick_(std::move(tick)), thread_([this] { Run(); }) {}

Executor::~Executor() { Stop(); }

void Executor::Post(std::function<void()> task) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
    tasks_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void Executor::Stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Executor::Run() {
  // A day at most: condition_variable computes with the clock's full range otherwise, and overflows.
  constexpr absl::Duration kLongest = absl::Hours(24);
  absl::Duration until_tick = kLongest;
  for (;;) {
    std::vector<std::function<void()>> tasks;
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, absl::ToChronoNanoseconds(until_tick), [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_ && tasks_.empty()) return;
      tasks.swap(tasks_);
    }
    for (const std::function<void()>& task : tasks) task();
    until_tick = tick_ ? std::clamp(tick_(), absl::ZeroDuration(), kLongest) : kLongest;
  }
}

}  // namespace studio::controller
