// What a worker keeps to save itself work, held to a number of bytes: inputs by their contents (inputs/), token shards
// (data/) and blobs (content/). The least recently used goes first, and never what a live attempt uses.
//
//   Cache cache("/state", store, 100 << 30);
//   Cache::Look look = cache.LookAround();          // in the background: reads folders
//   cache.TakeAway(look, agent.InUse());            // on the loop: quick, and no attempt starts meanwhile
//   cache.EmptyTrash();                             // in the background
//
// What is gone is fetched or prepared anew by the next attempt that wants it. A file with two names counts once.
// Threading: each method from one thread at a time; TakeAway from the one that attempts start on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/artifact/content_store.h"
#include "worker/agent/cache_use.h"

namespace studio::worker {

class Cache {
 public:
  struct Item {
    // A folder, or the hash of a blob.
    std::string name;
    bool is_blob = false;
    bool is_data = false;
    int64_t bytes = 0;
    absl::Time used;
  };
  struct Look {
    int64_t bytes = 0;
    // Oldest first.
    std::vector<Item> items;
  };

  Cache(std::string state_dir, ContentStore& store, int64_t max_bytes)
      : state_dir_(std::move(state_dir)), store_(store), max_bytes_(max_bytes) {}

  Look LookAround() const;
  // Returns the bytes of what it took; 0 where all is within bounds, or everything is in use.
  int64_t TakeAway(const Look& look, const CacheUse& use);
  void EmptyTrash() const;

  // As last seen, and taken away since the start.
  int64_t bytes() const { return bytes_; }
  int64_t taken_bytes() const { return taken_bytes_; }

 private:
  bool Take(const Item& item, const CacheUse& use);

  const std::string state_dir_;
  ContentStore& store_;
  const int64_t max_bytes_;
  int64_t bytes_ = 0;
  int64_t taken_bytes_ = 0;
  int64_t next_trash_ = 1;
};

}  // namespace studio::worker
