// Waits between tries, made unequal, so that many who lost the same peer do not come back in one moment.
#pragma once

#include <random>

#include "absl/time/time.h"

namespace studio {

// From half of `wait` to all of it, by chance. Thread-safe.
inline absl::Duration Jittered(absl::Duration wait) {
  thread_local std::minstd_rand random{std::random_device()()};
  return wait * std::uniform_real_distribution<double>(0.5, 1.0)(random);
}

}  // namespace studio
