#include "worker/trainer/planned/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "worker/trainer/planned/placement.h"

namespace studio::planned {
namespace {

bool Alive(const Interval& a, const Interval& b) { return a.first <= b.last && b.first <= a.last; }
bool Overlap(const Interval& a, const Interval& b) {
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

TEST(Place, LaysWhatIsNeverAliveTogetherOverEachOther) {
  std::vector<Interval> intervals = {{1000, 0, 0}, {900, 1, 1}, {100, 2, 2}};
  EXPECT_EQ(Place(intervals), 1024);
  for (const Interval& interval : intervals) EXPECT_EQ(interval.offset, 0);
}

TEST(Place, FillsAHoleThatIsLargeEnough) {
  // The second lies behind the first; the third is alive with the second alone, so it fits below it.
  std::vector<Interval> intervals = {{2048, 0, 0}, {1024, 0, 1}, {1536, 1, 1}};
  EXPECT_EQ(Place(intervals), 3072);
  EXPECT_EQ(intervals[1].offset, 2048);
  EXPECT_EQ(intervals[2].offset, 0);
}

TEST(Place, NeverOverlapsTheLivingAndIsAligned) {
  // Sizes and lives by a fixed walk, many of them equal or empty.
  std::vector<Interval> intervals;
  uint64_t state = 1;
  const auto next = [&](uint64_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int>((state >> 33) % below);
  };
  for (int i = 0; i < 300; ++i) {
    const int first = next(6);
    intervals.push_back({int64_t{700} * next(5), first, std::min(5, first + next(3))});
  }
  const int64_t total = Place(intervals);
  int64_t most_alive = 0;
  for (int phase = 0; phase < 6; ++phase) {
    int64_t alive = 0;
    for (const Interval& a : intervals) alive += a.first <= phase && phase <= a.last ? a.bytes : 0;
    most_alive = std::max(most_alive, alive);
  }
  EXPECT_GE(total, most_alive);
  EXPECT_LT(total, 2 * most_alive);
  for (size_t i = 0; i < intervals.size(); ++i) {
    EXPECT_EQ(intervals[i].offset % kAlignment, 0);
    EXPECT_LE(intervals[i].offset + intervals[i].bytes, total);
    for (size_t j = 0; j < i; ++j) {
      if (intervals[i].bytes == 0 || intervals[j].bytes == 0) continue;
      EXPECT_FALSE(Alive(intervals[i], intervals[j]) && Overlap(intervals[i], intervals[j])) << i << " " << j;
    }
  }
}

// Llama 3.2's 1B shape with adapters of rank 16 on every linear layer.
LayoutInput OneBillion(int64_t tokens) {
  LayoutInput input = {
      .hidden = 2048, .vocab = 128256, .layers = {}, .max_tokens = tokens, .loss_rows = 2048, .element_bytes = 2};
  for (int i = 0; i < 16; ++i) {
    input.layers.push_back(
        {.qkv = {2048, 3072, 64}, .o = {2048, 2048, 64}, .gate_up = {2048, 16384, 64}, .down = {8192, 2048, 64}});
  }
  return input;
}

TEST(Plan, KeepsForEachLayerWhatItsBackwardPassReads) {
  const LayoutInput input = OneBillion(16384);
  const Layout layout = Plan(input);
  // Norms' outputs, qkv, gate and up with their borders, two narrow products: bf16; two fp32 numbers a token.
  const int64_t token = int64_t{2} * ((2048 + 64) * 2 + 3072 + 16384 + 64 + 64 + 64) + 8;
  const int64_t kept = int64_t{16} * 16384 * token;
  EXPECT_GT(layout.total_bytes, kept);
  // What all layers share and the logits: less than a fourteenth of what is kept.
  EXPECT_LT(layout.total_bytes, kept + kept / 14);
  // With attention's output and the weights (2.5 GiB and their borders) below the 17.5 GiB of the goal.
  EXPECT_LT(layout.total_bytes + KeptByAttentionBytes(input, 32) + (int64_t{1} << 30) * 27 / 10,
            (int64_t{1} << 30) * 35 / 2);
}

TEST(Plan, LogitsLieWhereNoPassOverTheLayersIs) {
  LayoutInput input = OneBillion(16384);
  const int64_t with_logits = Plan(input).total_bytes;
  input.loss_rows = 1;
  // 2,048 rows of 128,256 logits would be half a GiB.
  EXPECT_LT(with_logits - Plan(input).total_bytes, int64_t{200} << 20);
}

TEST(Plan, GrowsWithTokensAlone) {
  const int64_t one = Plan(OneBillion(4096)).total_bytes;
  const int64_t two = Plan(OneBillion(8192)).total_bytes;
  const int64_t four = Plan(OneBillion(16384)).total_bytes;
  EXPECT_NEAR(static_cast<double>(four - two) / static_cast<double>(two - one), 2, 0.1);
}

TEST(Plan, TrainingEveryWeightKeepsNoBordersAndTheNormsGradients) {
  LayoutInput input = OneBillion(16384);
  for (LayoutInput::Layer& layer : input.layers) {
    layer = {.qkv = {2048, 3072}, .o = {2048, 2048}, .gate_up = {2048, 16384}, .down = {8192, 2048}};
  }
  const int64_t without = Plan(input).total_bytes;
  EXPECT_EQ(Plan(input).norm_gradients.rows, 0);
  input.full = true;
  const Layout layout = Plan(input);
  EXPECT_EQ(layout.norm_gradients.rows, 33);
  EXPECT_EQ(layout.norm_gradients.width, 2048);
  EXPECT_TRUE(layout.norm_gradients.fp32);
  // They may find a hole.
  EXPECT_LE(layout.total_bytes, without + int64_t{33} * 2048 * 4);
  const int64_t token = int64_t{2} * (2048 * 2 + 3072 + 16384) + 8;
  EXPECT_GT(layout.total_bytes, int64_t{16} * 16384 * token);
  // Weights, gradients and two states of 1,235,814,400 weights in bf16: with them below the 24 GiB of the goal, and
  // room for the libraries' workspaces.
  EXPECT_LT(layout.total_bytes + KeptByAttentionBytes(input, 32) + int64_t{1235814400} * 8, (int64_t{1} << 30) * 23);
}

TEST(Plan, AGroupWithoutAdaptersCostsNothingMore) {
  LayoutInput input = OneBillion(1024);
  for (LayoutInput::Layer& layer : input.layers) layer.gate_up = {2048, 16384};
  const Layout layout = Plan(input);
  EXPECT_EQ(layout.layers[3].gate_up.width, 16384);
  EXPECT_EQ(layout.layers[3].mlp_input.width, 2048);
}

}  // namespace
}  // namespace studio::planned
