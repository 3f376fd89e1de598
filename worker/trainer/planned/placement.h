// Where buffers lie in one arena, given when each is alive.
//
//   std::vector<Interval> intervals = {{.bytes = 512, .first = 0, .last = 1}, {.bytes = 256, .first = 2, .last = 2}};
//   int64_t total = Place(intervals);      // 512: the second lies where the first was
//
// Pure.
#pragma once

#include <cstdint>
#include <span>

namespace studio::planned {

struct Interval {
  int64_t bytes = 0;
  // Phases of the step, both included, in which it holds something.
  int first = 0;
  int last = 0;
  // Set by Place; a multiple of kAlignment.
  int64_t offset = 0;
};

// What LibTorch's allocators align to on CUDA, and more than any vector load asks for.
inline constexpr int64_t kAlignment = 512;

// The largest first, each at the lowest offset where nothing lies that is alive with it. Returns the arena's bytes.
int64_t Place(std::span<Interval> intervals);

}  // namespace studio::planned
