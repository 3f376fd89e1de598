#include "worker/data/packing.h"

#include <gtest/gtest.h>

#include <numeric>

#include "worker/data/counter_hash.h"

namespace studio {
namespace {

std::vector<uint32_t> Lengths(size_t count, uint32_t max_length) {
  std::vector<uint32_t> lengths;
  for (size_t i = 0; i < count; ++i) {
    lengths.push_back(1 + static_cast<uint32_t>(CounterHash(9, DataChannel::kRowOrder, i) % max_length));
  }
  return lengths;
}

// Every example once, no row too long; the number of rows.
size_t Check(const std::vector<PackedRow>& rows, const std::vector<uint32_t>& lengths, uint32_t max_length) {
  std::vector<int> seen(lengths.size());
  for (const PackedRow& row : rows) {
    uint32_t total = 0;
    for (uint32_t example : row) {
      ++seen.at(example);
      total += lengths[example];
    }
    EXPECT_GT(total, 0u);
    EXPECT_LE(total, max_length);
  }
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], 1) << "example " << i;
  return rows.size();
}

TEST(PackingTest, FillsRowsExactlyWhereItCan) {
  const std::vector<uint32_t> lengths = {6, 4, 7, 3, 5, 5, 10};
  EXPECT_EQ(Check(PackExamples(lengths, 10, 1), lengths, 10), 4);
}

TEST(PackingTest, KeepsEveryExampleWhole) {
  for (size_t window : {1, 7, 64, 100000}) {
    const std::vector<uint32_t> lengths = Lengths(1000, 300);
    Check(PackExamples(lengths, 300, 5, window), lengths, 300);
  }
}

TEST(PackingTest, WastesLittle) {
  const std::vector<uint32_t> lengths = Lengths(20000, 500);  // shorter than a quarter of a row, as text mostly is
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const size_t rows = Check(PackExamples(lengths, 2048, 1), lengths, 2048);
  EXPECT_GT(tokens / (2048.0 * static_cast<double>(rows)), 0.995);
}

TEST(PackingTest, DependsOnTheSeedAlone) {
  const std::vector<uint32_t> lengths = Lengths(500, 100);
  EXPECT_EQ(PackExamples(lengths, 256, 1), PackExamples(lengths, 256, 1));
  EXPECT_NE(PackExamples(lengths, 256, 1), PackExamples(lengths, 256, 2));
}

TEST(PackingTest, HasNoRowsWithoutExamples) { EXPECT_TRUE(PackExamples({}, 10, 1).empty()); }

}  // namespace
}  // namespace studio
