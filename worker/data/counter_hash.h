// Random numbers that are a function of what they are for: the same (seed, channel, index) gives the same number
// whatever was drawn before, on any machine and thread.
#pragma once

#include <cstdint>

namespace studio {

// What a number decides; never renumber.
enum class DataChannel : uint64_t { kValidationSplit = 1, kDataSample = 2, kPackingOrder = 3, kRowOrder = 4 };

// SplitMix64's finaliser (Steele, Lea and Flood, 2014): every input bit flips each output bit half the time.
constexpr uint64_t MixBits(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

constexpr uint64_t CounterHash(uint64_t seed, DataChannel channel, uint64_t index) {
  return MixBits(MixBits(MixBits(seed) ^ static_cast<uint64_t>(channel)) ^ index);
}

}  // namespace studio
