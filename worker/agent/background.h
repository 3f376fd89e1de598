// Work that blocks (transfers, hashing), off the event loop; its outcome comes back to the loop.
//
//   background.Run([=] {                       // on a thread of its own
//     absl::Status status = artifacts.Fetch(…);
//     return [=] { OnFetched(status); };       // on the loop
//   });
//
// Threading: Run belongs to the loop's thread. Destroying it waits for the work that is under way, whose outcome is
// then dropped: make such work cancellable.
#pragma once

#include <functional>
#include <map>
#include <thread>

#include "worker/agent/event_loop.h"

namespace studio::worker {

class Background {
 public:
  explicit Background(EventLoop& loop) : loop_(loop) {}
  ~Background() {
    for (auto& [unused, thread] : threads_) thread.join();
  }

  void Run(std::function<std::function<void()>()> work) {
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
  EventLoop& loop_;
  int next_id_ = 0;
  std::map<int, std::thread> threads_;
};

}  // namespace studio::worker
