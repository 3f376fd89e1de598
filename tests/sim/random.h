// Random numbers that are the same on every machine (SplitMix64, Steele et al. 2014): the standard library's
// distributions differ. One generator an entity, so that taking a fault away leaves the others' draws as they were.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"

namespace studio::sim {

class Random {
 public:
  Random(uint64_t seed, std::string_view name) : state_(seed * 0x9e3779b97f4a7c15u) {
    for (const char c : name) state_ = (state_ ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  }

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  // Both ends included.
  int64_t Between(int64_t low, int64_t high) { return low + static_cast<int64_t>(Next() % (high - low + 1)); }
  bool Chance(int percent) { return Between(1, 100) <= percent; }
  absl::Duration Ms(int64_t low, int64_t high) { return absl::Microseconds(Between(low * 1000, high * 1000)); }

 private:
  uint64_t state_;
};

}  // namespace studio::sim
