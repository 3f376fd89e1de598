// Which examples share a row: best-fit decreasing, as in bin packing, over a bounded window of examples in an order
// drawn with the seed. Examples are never split. (Ding et al., "Fewer Truncations Improve Language Modeling", 2024.)
//
//   std::vector<PackedRow> rows = PackExamples(lengths, 2048, seed);   // rows[0] = {7, 1, 30}: examples by index
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace studio {

using PackedRow = std::vector<uint32_t>;

// Examples that are packed together. Larger windows waste less and mix less; this many lose about nothing to any.
inline constexpr size_t kPackingWindow = 65536;

// lengths: of each example, from 1 to max_length. Every example is in exactly one row, every row sums to at most
// max_length; rows are in an order drawn with the seed. The result depends on the arguments alone.
std::vector<PackedRow> PackExamples(std::span<const uint32_t> lengths, uint32_t max_length, uint64_t seed,
                                    size_t window = kPackingWindow);

}  // namespace studio
