#include "controller/api/call_count.h"

#include "common/status/testing.h"

namespace studio::controller {
namespace {

TEST(CallCount, TurnsAwayWhatIsTooManyUntilAPlaceIsFree) {
  CallCount calls(2);
  auto first = calls.Enter(), second = calls.Enter();
  ASSERT_OK(first);
  ASSERT_OK(second);
  EXPECT_THAT(calls.Enter(), StatusIs(absl::StatusCode::kUnavailable, testing::HasSubstr("2 calls under way")));
  auto copy = *first;
  first = absl::CancelledError();
  EXPECT_FALSE(calls.Enter().ok());  // the copy holds it
  copy.reset();
  ASSERT_OK(calls.Enter());
  ASSERT_OK(calls.Enter());  // the last one's place was free again
}

}  // namespace
}  // namespace studio::controller
