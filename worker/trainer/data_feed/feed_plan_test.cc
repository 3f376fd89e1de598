#include "worker/trainer/data_feed/feed_plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "common/status/testing.h"
#include "worker/trainer/data_feed/permutation.h"

namespace studio {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

v1::Training Settings(double epochs) {
  v1::Training training;
  training.set_epochs(epochs);
  return training;
}

TEST(EpochOrder, IsAPermutationThatDependsOnSeedAndEpochAlone) {
  const std::vector<uint32_t> order = EpochOrder(1, 0, 1000);
  EXPECT_THAT(std::set<uint32_t>(order.begin(), order.end()), SizeIs(1000));
  EXPECT_EQ(*std::max_element(order.begin(), order.end()), 999);
  EXPECT_EQ(order, EpochOrder(1, 0, 1000));
  EXPECT_NE(order, EpochOrder(1, 1, 1000));
  EXPECT_NE(order, EpochOrder(2, 0, 1000));
  EXPECT_NE(EpochOrder(0, 1, 1000), EpochOrder(1, 0, 1000));
}

// Recorded checkpoints depend on it: a change here breaks resuming runs that an older version began.
TEST(EpochOrder, NeverChanges) { EXPECT_THAT(EpochOrder(1, 0, 8), ElementsAre(1, 2, 3, 5, 0, 4, 6, 7)); }

TEST(EpochOrder, PutsEveryRowAnywhereAboutEquallyOften) {
  std::map<uint32_t, int> first;
  for (int epoch = 0; epoch < 6000; ++epoch) ++first[EpochOrder(7, epoch, 6)[0]];
  for (const auto& [row, count] : first) EXPECT_NEAR(count, 1000, 150) << row;
}

TEST(FeedPlan, CoversEveryRowOnceAnEpochWhateverTheRanks) {
  for (const int world_size : {1, 2, 3}) {
    std::map<uint32_t, int> seen;
    for (int rank = 0; rank < world_size; ++rank) {
      ASSERT_OK_AND_ASSIGN(const FeedPlan plan, MakeFeedPlan(Settings(1), 1, 23, 2, 3, rank, world_size));
      const std::vector<uint32_t> order = EpochOrder(1, 0, 23);
      for (int64_t step = 0; step < plan.steps_per_epoch; ++step) {
        for (const MicroBatchRows& micro : RowsOfStep(plan, order, step)) {
          EXPECT_LE(micro.rows.size(), 2);
          for (const uint32_t row : micro.rows) ++seen[row];
        }
      }
    }
    EXPECT_THAT(seen, SizeIs(23));
    for (const auto& [row, count] : seen) EXPECT_EQ(count, 1) << row;
  }
}

TEST(FeedPlan, TrainsTheSameGlobalBatchHoweverItIsCut) {
  const std::vector<uint32_t> order = EpochOrder(5, 0, 64);
  ASSERT_OK_AND_ASSIGN(const FeedPlan wide, MakeFeedPlan(Settings(1), 5, 64, 8, 1, 0, 1));
  ASSERT_OK_AND_ASSIGN(const FeedPlan narrow, MakeFeedPlan(Settings(1), 5, 64, 1, 8, 0, 1));
  for (int64_t step = 0; step < wide.total_steps; ++step) {
    std::vector<uint32_t> joined;
    for (const MicroBatchRows& micro : RowsOfStep(narrow, order, step)) {
      EXPECT_EQ(micro.first, joined.size());
      joined.insert(joined.end(), micro.rows.begin(), micro.rows.end());
    }
    const std::vector<MicroBatchRows> whole = RowsOfStep(wide, order, step);
    ASSERT_THAT(whole, SizeIs(1));
    EXPECT_TRUE(std::equal(joined.begin(), joined.end(), whole[0].rows.begin(), whole[0].rows.end()));
  }
}

TEST(FeedPlan, CountsStepsAsTransformersDoes) {
  ASSERT_OK_AND_ASSIGN(FeedPlan plan, MakeFeedPlan(Settings(1.5), 1, 10, 2, 2, 0, 1));
  EXPECT_EQ(plan.steps_per_epoch, 3);
  EXPECT_EQ(plan.total_steps, 5) << "1.5 epochs of 3 steps, rounded up";
  EXPECT_TRUE(plan.EndsEpoch(2));
  EXPECT_FALSE(plan.EndsEpoch(3));
  v1::Training training = Settings(1);
  training.set_drop_last_batch(true);
  ASSERT_OK_AND_ASSIGN(plan, MakeFeedPlan(training, 1, 10, 2, 2, 0, 1));
  EXPECT_EQ(plan.total_steps, 2);
  training.set_max_steps(7);
  ASSERT_OK_AND_ASSIGN(plan, MakeFeedPlan(training, 1, 10, 2, 2, 0, 1));
  EXPECT_EQ(plan.total_steps, 7);
  EXPECT_EQ(plan.EpochOf(6), 3);
}

TEST(FeedPlan, TrainsFewerRowsThanABatch) {
  ASSERT_OK_AND_ASSIGN(const FeedPlan plan, MakeFeedPlan(Settings(3), 1, 1, 4, 8, 0, 1));
  EXPECT_EQ(plan.total_steps, 3);
  EXPECT_THAT(RowsOfStep(plan, EpochOrder(1, 0, 1), 2), SizeIs(1));
}

TEST(FeedPlan, RefusesToDropTheOnlyBatch) {
  v1::Training training = Settings(1);
  training.set_drop_last_batch(true);
  EXPECT_THAT(MakeFeedPlan(training, 1, 3, 2, 2, 0, 1),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 training rows")));
}

}  // namespace
}  // namespace studio
