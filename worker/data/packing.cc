#include "worker/data/packing.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "common/status/check.h"
#include "worker/data/counter_hash.h"

namespace studio {
namespace {

std::vector<uint32_t> DrawnOrder(size_t count, uint64_t seed, DataChannel channel) {
  std::vector<std::pair<uint64_t, uint32_t>> keyed(count);
  for (size_t i = 0; i < count; ++i) keyed[i] = {CounterHash(seed, channel, i), static_cast<uint32_t>(i)};
  std::sort(keyed.begin(), keyed.end());
  std::vector<uint32_t> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = keyed[i].second;
  return order;
}

void PackWindow(std::span<uint32_t> examples, std::span<const uint32_t> lengths, uint32_t max_length,
                std::vector<PackedRow>* rows) {
  // Stable: examples of one length stay in the drawn order.
  std::stable_sort(examples.begin(), examples.end(), [&](uint32_t a, uint32_t b) { return lengths[a] > lengths[b]; });
  std::set<std::pair<uint32_t, size_t>> open;  // {room left, row}: the least room that is enough comes first
  for (uint32_t example : examples) {
    const uint32_t length = lengths[example];
    STUDIO_CHECK(length > 0 && length <= max_length) << "example " << example << " of " << length << " tokens";
    auto fit = open.lower_bound({length, 0});
    uint32_t room = max_length;
    size_t row = rows->size();
    if (fit != open.end()) {
      std::tie(room, row) = *fit;
      open.erase(fit);
    } else {
      rows->emplace_back();
    }
    (*rows)[row].push_back(example);
    if (room > length) open.insert({room - length, row});
  }
}

}  // namespace

std::vector<PackedRow> PackExamples(std::span<const uint32_t> lengths, uint32_t max_length, uint64_t seed,
                                    size_t window) {
  std::vector<uint32_t> examples = DrawnOrder(lengths.size(), seed, DataChannel::kPackingOrder);
  std::vector<PackedRow> packed;
  for (size_t begin = 0; begin < examples.size(); begin += window) {
    const size_t count = std::min(window, examples.size() - begin);
    PackWindow(std::span(examples).subspan(begin, count), lengths, max_length, &packed);
  }
  // Best-fit decreasing leaves the longest examples first: a batch would see one kind of row.
  std::vector<PackedRow> rows;
  rows.reserve(packed.size());
  for (uint32_t row : DrawnOrder(packed.size(), seed, DataChannel::kRowOrder)) rows.push_back(std::move(packed[row]));
  return rows;
}

}  // namespace studio
