#include "worker/agent/event_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "common/status/check.h"

namespace studio::worker {

// poll and a pipe rather than epoll and eventfd: a worker has a few dozen descriptors, and Macs have these too.
EventLoop::EventLoop() {
  int fds[2];
  STUDIO_CHECK(pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0) << "errno " << errno;
  wake_read_.Reset(fds[0]);
  wake_write_.Reset(fds[1]);
  Watch(wake_read_.get(), [this] {
    char bytes[256];
    while (read(wake_read_.get(), bytes, sizeof bytes) > 0) {
    }
  });
}

void EventLoop::Watch(int fd, Callback readable) {
  STUDIO_CHECK(fd >= 0 && watched_.count(fd) == 0) << "descriptor " << fd;
  watched_[fd] = std::move(readable);
}

void EventLoop::Unwatch(int fd) { watched_.erase(fd); }

EventLoop::Timer EventLoop::At(absl::Time time, Callback callback) {
  const Timer timer(time, next_timer_++);
  timers_[timer] = std::move(callback);
  return timer;
}

void EventLoop::Post(Callback callback) {
  const std::lock_guard<std::mutex> lock(mutex_);
  posted_.push_back(std::move(callback));
  (void)!write(wake_write_.get(), "", 1);  // a full pipe wakes as well
}

void EventLoop::Stop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stopped_ = true;
  (void)!write(wake_write_.get(), "", 1);
}

void EventLoop::Run() {
  while (true) {
    RunPosted();
    RunTimers();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stopped_) return;
      if (!posted_.empty()) continue;
    }
    Wait();
  }
}

void EventLoop::RunPosted() {
  std::deque<Callback> callbacks;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    callbacks.swap(posted_);
  }
  for (const Callback& callback : callbacks) callback();
}

void EventLoop::RunTimers() {
  const absl::Time now = clock_.Now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    const Callback callback = std::move(timers_.begin()->second);
    timers_.erase(timers_.begin());
    callback();
  }
}

void EventLoop::Wait() {
  std::vector<pollfd> waits;
  for (const auto& [fd, unused] : watched_) waits.push_back({fd, POLLIN, 0});
  int timeout_ms = -1;
  if (!timers_.empty() && timers_.begin()->first.first < absl::InfiniteFuture()) {
    const int64_t left = absl::ToInt64Milliseconds(timers_.begin()->first.first - clock_.Now()) + 1;
    timeout_ms = static_cast<int>(std::clamp<int64_t>(left, 0, 3'600'000));
  }
  if (poll(waits.data(), waits.size(), timeout_ms) <= 0) return;
  for (const pollfd& wait : waits) {
    if (wait.revents == 0) continue;
    // An earlier callback of this round may have taken it away.
    const auto watched = watched_.find(wait.fd);
    if (watched == watched_.end()) continue;
    const Callback callback = watched->second;
    callback();
  }
}

}  // namespace studio::worker
