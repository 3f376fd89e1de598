// Ctrl-C as something that a blocking call can be woken by.
//
//   Interrupt::Scope scope(interrupt, [&] { context.TryCancel(); });
//   while (stream->Read(&message)) …            // ends early where Ctrl-C came
//   if (interrupt.raised()) …
//
// Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <utility>

#include "absl/time/time.h"

namespace studio::ctl {

class Interrupt {
 public:
  // While it lives, Raise calls `wake`, at once where it was raised before.
  class Scope {
   public:
    Scope(Interrupt& interrupt, std::function<void()> wake) : interrupt_(interrupt) {
      std::lock_guard<std::mutex> lock(interrupt_.mutex_);
      interrupt_.wake_ = std::move(wake);
      if (interrupt_.raised_) interrupt_.wake_();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() {
      std::lock_guard<std::mutex> lock(interrupt_.mutex_);
      interrupt_.wake_ = nullptr;
    }

   private:
    Interrupt& interrupt_;
  };

  void Raise() {
    std::lock_guard<std::mutex> lock(mutex_);
    raised_ = true;
    if (wake_) wake_();
    changed_.notify_all();
  }
  bool raised() const { return raised_; }
  const std::atomic<bool>& flag() const { return raised_; }

  // Waits that long, or until raised. True where it was raised.
  bool WaitFor(absl::Duration time) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoMilliseconds(time), [this] { return raised_.load(); });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> raised_{false};
  std::function<void()> wake_;
};

}  // namespace studio::ctl
