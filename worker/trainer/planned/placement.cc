#include "worker/trainer/planned/placement.h"

#include <algorithm>
#include <vector>

namespace studio::planned {
namespace {

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

int64_t Place(std::span<Interval> intervals) {
  std::vector<Interval*> by_size;
  for (Interval& interval : intervals) by_size.push_back(&interval);
  std::stable_sort(by_size.begin(), by_size.end(),
                   [](const Interval* a, const Interval* b) { return a->bytes > b->bytes; });

  int64_t total = 0;
  std::vector<Interval*> placed;  // by offset
  for (Interval* interval : by_size) {
    int64_t offset = 0;
    for (const Interval* other : placed) {
      if (other->last < interval->first || interval->last < other->first) continue;
      if (offset + interval->bytes <= other->offset) break;
      offset = std::max(offset, Aligned(other->offset + other->bytes));
    }
    interval->offset = offset;
    total = std::max(total, Aligned(offset + interval->bytes));
    placed.insert(std::upper_bound(placed.begin(), placed.end(), interval,
                                   [](const Interval* a, const Interval* b) { return a->offset < b->offset; }),
                  interval);
  }
  return total;
}

}  // namespace studio::planned
