#include "worker/trainer/loop/progress_meter.h"

#include <gtest/gtest.h>

namespace studio {
namespace {

TEST(ProgressMeter, MeasuresSpeedOverTheLastStepsAlone) {
  ProgressMeter meter(/*total_steps=*/100, /*tokens_seen=*/1000);
  meter.Step(500, 50);  // slow at first
  for (size_t i = 0; i < ProgressMeter::kWindow; ++i) meter.Step(200, 2);
  const v1::Progress point = meter.Point(40);
  EXPECT_DOUBLE_EQ(point.tokens_per_second(), 100);
  EXPECT_DOUBLE_EQ(point.eta_seconds(), 60 * 2);
  EXPECT_EQ(point.tokens_seen(), 1000 + 500 + 20 * 200);
  EXPECT_NEAR(meter.MeanTokensPerSecond(), 4500.0 / 90, 1e-9);
}

TEST(ProgressMeter, SaysNothingOfSpeedBeforeTheFirstStep) {
  const v1::Progress point = ProgressMeter(10, 0).Point(0);
  EXPECT_EQ(point.tokens_per_second(), 0);
  EXPECT_EQ(point.eta_seconds(), 0);
}

}  // namespace
}  // namespace studio
