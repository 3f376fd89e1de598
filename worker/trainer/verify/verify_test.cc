#include "worker/trainer/verify/verify.h"

#include "common/status/testing.h"

namespace studio {
namespace {

using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;

TEST(Verify, ThisMachinesCpuPasses) {
  const VerifyReport report = Verify(at::kCPU, testing::TempDir());
  EXPECT_TRUE(report.passed()) << report.Text();
  EXPECT_THAT(report.Text(), EndsWith("this machine passes\n"));
  EXPECT_THAT(report.Text(), HasSubstr("PASS  causality: no token sees a later one\n"));
  // The smaller size on a slow CPU.
  EXPECT_THAT(report.Text(), AnyOf(HasSubstr("TFLOP/s (1024 × 1024 × 1024)"), HasSubstr("TFLOP/s (256 × 256 × 256)")));
}

TEST(Verify, WhatCannotBeDoneIsAFailureInTheReport) {
  const VerifyReport report = Verify(at::kCPU, "/no/such/folder");
  EXPECT_FALSE(report.passed());
  EXPECT_THAT(report.Text(), HasSubstr("FAIL  training in float32: /no/such/folder/config.json cannot be written\n"));
  EXPECT_THAT(report.Text(), EndsWith("this machine FAILS\n"));
}

TEST(VerifyReport, OneFailureFailsIt) {
  EXPECT_FALSE(VerifyReport{}.passed()) << "nothing was checked";
  EXPECT_FALSE((VerifyReport{{{"a", true, ""}, {"b", false, "off"}}}).passed());
  EXPECT_TRUE((VerifyReport{{{"a", true, ""}}}).passed());
}

}  // namespace
}  // namespace studio
