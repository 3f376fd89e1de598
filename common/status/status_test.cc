#include <string>

#include "common/status/check.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) return absl::InvalidArgumentError("odd");
  return number / 2;
}

absl::StatusOr<int> Quarter(int number) {
  ASSIGN_OR_RETURN(const int half, Half(number));
  RETURN_IF_ERROR(Half(half).status());
  return half / 2;
}

TEST(Macros, ReturnTheFirstError) {
  ASSERT_OK_AND_ASSIGN(const int quarter, Quarter(8));
  EXPECT_EQ(quarter, 2);
  EXPECT_THAT(Quarter(7), StatusIs(absl::StatusCode::kInvalidArgument, "odd"));
  EXPECT_THAT(Quarter(6), StatusIs(absl::StatusCode::kInvalidArgument, "odd"));
}

TEST(GrpcStatus, KeepsCodeAndMessage) {
  const absl::Status lost = absl::DataLossError("hash differs");
  EXPECT_EQ(ToGrpc(lost).error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(FromGrpc(ToGrpc(lost)), lost);
  EXPECT_OK(FromGrpc(ToGrpc(absl::OkStatus())));
}

TEST(CheckDeathTest, NamesTheConditionAndTheValue) {
  const int row = 3;
  STUDIO_CHECK(row == 3) << "not reached";
  EXPECT_DEATH(STUDIO_CHECK(row < 3) << "row " << row,  // NOLINT(bugprone-infinite-loop): the check ends the program
               HasSubstr("row < 3 row 3"));
}

}  // namespace
}  // namespace studio
