#include "common/time/clock.h"

#include <gtest/gtest.h>

namespace studio {
namespace {

TEST(RealClock, IsTheTimeOfDay) {
  const absl::Time before = absl::Now();
  const absl::Time now = RealClock().Now();
  EXPECT_LE(before, now);
  EXPECT_LE(now, absl::Now());
}

TEST(SimulatedClock, MovesOnlyWhenTold) {
  SimulatedClock clock;
  const absl::Time start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(absl::Seconds(15));
  EXPECT_EQ(clock.Now(), start + absl::Seconds(15));
}

}  // namespace
}  // namespace studio
