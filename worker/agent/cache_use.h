// What attempts that live use of the worker's cache (cache.h).
#pragma once

#include <set>
#include <string>

#include "absl/time/time.h"

namespace studio::worker {

struct CacheUse {
  std::set<std::string> folders;
  // By hash.
  std::set<std::string> blobs;
  // Token shards that were used since are theirs: the first of them began then. Time of day.
  absl::Time since = absl::InfiniteFuture();
};

}  // namespace studio::worker
