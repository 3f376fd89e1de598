#include "worker/trainer/data_feed/permutation.h"

#include <limits>
#include <numeric>
#include <utility>

#include "common/status/check.h"

namespace studio {
namespace {

// Finalizer of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): a bijection
// whose every output bit depends on every input bit.
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace

std::vector<uint32_t> EpochOrder(uint64_t seed, int64_t epoch, int64_t rows) {
  STUDIO_CHECK(rows >= 0 && rows <= std::numeric_limits<uint32_t>::max()) << rows;
  std::vector<uint32_t> order(rows);
  std::iota(order.begin(), order.end(), 0);
  // Not seed + epoch: epoch 1 of seed 0 must not be epoch 0 of seed 1.
  const uint64_t key = Mix(Mix(seed) ^ static_cast<uint64_t>(epoch));
  // Fisher-Yates. Scaling 64 random bits to the range has a bias below 2^-32, which no training can show.
  for (uint64_t i = order.size(); i > 1; --i) {
    const uint64_t bits = Mix(key + i);
    std::swap(order[i - 1], order[static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * i) >> 64)]);
  }
  return order;
}

}  // namespace studio
