// Background work on a thread of its own each. Destroying it waits for the work that is under way, whose outcome is
// then dropped: make such work cancellable. The loop must outlive it.
#pragma once

#include <map>
#include <thread>
#include <utility>

#include "worker/agent/background.h"
#include "worker/agent/loop.h"

namespace studio::worker {

class ThreadBackground : public Background {
 public:
  explicit ThreadBackground(Loop& loop) : loop_(loop) {}
  ~ThreadBackground() override {
    for (auto& [unused, thread] : threads_) thread.join();
  }

  void Run(Work work) override {
    const int id = next_id_++;
    threads_[id] = std::thread([this, id, work = std::move(work)] {
      std::function<void()> done = work();
      loop_.Post([this, id, done = std::move(done)] {
        threads_.at(id).join();
        threads_.erase(id);
        done();
      });
    });
  }

 private:
  Loop& loop_;
  int next_id_ = 0;
  std::map<int, std::thread> threads_;
};

}  // namespace studio::worker
