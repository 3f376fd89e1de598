// Matchers for Status and StatusOr, which Debian 12's Abseil does not have yet.
//
//   EXPECT_THAT(Parse(""), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("empty")));
//   ASSERT_OK(file.Close());
//   ASSERT_OK_AND_ASSIGN(Job job, Parse(text));
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace studio {

inline const absl::Status& AsStatus(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& AsStatus(const absl::StatusOr<T>& result) {
  return result.status();
}

MATCHER(IsOk, "is OK") {
  *result_listener << AsStatus(arg).ToString();
  return AsStatus(arg).ok();
}

MATCHER_P2(StatusIs, code, message, "is a status of the given code and message") {
  const absl::Status& status = AsStatus(arg);
  *result_listener << status.ToString();
  return status.code() == code && testing::ExplainMatchResult(message, std::string(status.message()), result_listener);
}

}  // namespace studio

#define ASSERT_OK(expression) ASSERT_THAT(expression, ::studio::IsOk())
#define EXPECT_OK(expression) EXPECT_THAT(expression, ::studio::IsOk())

#define STUDIO_TEST_CONCAT_INNER(a, b) a##b
#define STUDIO_TEST_CONCAT(a, b) STUDIO_TEST_CONCAT_INNER(a, b)
#define ASSERT_OK_AND_ASSIGN(declaration, expression) \
  ASSERT_OK_AND_ASSIGN_IMPL(STUDIO_TEST_CONCAT(test_status_or_, __LINE__), declaration, expression)
#define ASSERT_OK_AND_ASSIGN_IMPL(result, declaration, expression) \
  auto result = (expression);                                      \
  ASSERT_TRUE(result.ok()) << result.status().ToString();          \
  declaration = *std::move(result)
