// The order of an epoch's rows: a function of (seed, epoch) alone, so that a resumed or resized run sees the same rows,
// whatever LibTorch's own generators have done.
//
//   const std::vector<uint32_t> order = EpochOrder(seed, /*epoch=*/0, rows);
#pragma once

#include <cstdint>
#include <vector>

namespace studio {

// The rows 0 … rows-1 in random order. rows < 2^32.
std::vector<uint32_t> EpochOrder(uint64_t seed, int64_t epoch, int64_t rows);

}  // namespace studio
