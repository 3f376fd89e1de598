// How often the kernel killed for memory in this process's cgroup, which ranks share: read before and after.
#pragma once

#include <cstdint>

#include "common/env/env.h"

namespace studio::worker {

// 0 where no cgroup counts. Never fails: a count that cannot be read proves nothing.
int64_t CountOomKills(Env& env);

}  // namespace studio::worker
