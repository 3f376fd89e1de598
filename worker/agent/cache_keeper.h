// Has a Cache looked after, again and again: reading and deleting in the background, taking away on the loop.
//
//   CacheKeeper keeper(loop, background, cache, [&] { return agent.InUse(); });
//   keeper.Start();
//
// Threading: belongs to the loop's thread. What it refers to outlives it, and it outlives the loop's running.
#pragma once

#include <functional>
#include <utility>

#include "absl/time/time.h"
#include "worker/agent/background.h"
#include "worker/agent/cache.h"
#include "worker/agent/loop.h"

namespace studio::worker {

class CacheKeeper {
 public:
  static constexpr absl::Duration kInterval = absl::Minutes(5);

  CacheKeeper(Loop& loop, Background& background, Cache& cache, std::function<CacheUse()> in_use)
      : loop_(loop), background_(background), cache_(cache), in_use_(std::move(in_use)) {}

  void Start() {
    background_.Run([this] {
      cache_.EmptyTrash();
      return [this, look = cache_.LookAround()] {
        // Folders that went may have been the last to share their blobs: these go in the next round.
        const bool again = cache_.TakeAway(look, in_use_()) > 0;
        if (again) return Start();
        loop_.At(loop_.now() + kInterval, [this] { Start(); });
      };
    });
  }

 private:
  Loop& loop_;
  Background& background_;
  Cache& cache_;
  const std::function<CacheUse()> in_use_;
};

}  // namespace studio::worker
