#include "worker/data/split.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace studio {
namespace {

int64_t Count(const std::vector<RowUse>& use, RowUse wanted) { return std::count(use.begin(), use.end(), wanted); }

std::vector<bool> Usable(size_t rows) { return std::vector<bool>(rows, true); }

TEST(SplitTest, HoldsOutExactlyTheShare) {
  for (size_t rows : {2, 3, 20, 503, 1000}) {
    const auto use = SelectRows(Usable(rows), {.seed = 7, .validation_size = 0.05});
    const int64_t expected = std::max<int64_t>(1, std::llround(0.05 * static_cast<double>(rows)));
    EXPECT_EQ(Count(use, RowUse::kValidation), expected) << rows;
    EXPECT_EQ(Count(use, RowUse::kTrain), static_cast<int64_t>(rows) - expected) << rows;
  }
}

TEST(SplitTest, LeavesARowToTrainOn) {
  EXPECT_EQ(Count(SelectRows(Usable(2), {.validation_size = 0.9}), RowUse::kTrain), 1);
  EXPECT_EQ(Count(SelectRows(Usable(1), {.validation_size = 0.9}), RowUse::kTrain), 1);
  EXPECT_TRUE(SelectRows({}, {.validation_size = 0.5}).empty());
}

TEST(SplitTest, TakesOnlyUsableRows) {
  std::vector<bool> usable(100, false);
  usable[3] = usable[50] = true;
  const auto use = SelectRows(usable, {.validation_size = 0.5});
  EXPECT_EQ(Count(use, RowUse::kUnused), 98);
  EXPECT_NE(use[3], use[50]);
}

TEST(SplitTest, SamplesTrainingRowsAndLeavesTheHeldOutAlone) {
  const auto all = SelectRows(Usable(1000), {.seed = 3, .validation_size = 0.1});
  const auto some = SelectRows(Usable(1000), {.seed = 3, .validation_size = 0.1, .data_sample = 0.25});
  EXPECT_EQ(Count(some, RowUse::kTrain), 225);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i] == RowUse::kValidation, some[i] == RowUse::kValidation) << i;
}

TEST(SplitTest, DependsOnTheSeedAlone) {
  const SplitOptions one{.seed = 1, .validation_size = 0.1}, two{.seed = 2, .validation_size = 0.1};
  EXPECT_EQ(SelectRows(Usable(200), one), SelectRows(Usable(200), one));
  EXPECT_NE(SelectRows(Usable(200), one), SelectRows(Usable(200), two));
}

// A golden draw: a changed hash would give every job another held-out set.
TEST(SplitTest, DrawsTheRowsItAlwaysDrew) {
  const auto use = SelectRows(Usable(40), {.seed = 1, .validation_size = 0.1});
  std::vector<size_t> held_out;
  for (size_t i = 0; i < use.size(); ++i) {
    if (use[i] == RowUse::kValidation) held_out.push_back(i);
  }
  EXPECT_EQ(held_out, (std::vector<size_t>{0}));
}

}  // namespace
}  // namespace studio
