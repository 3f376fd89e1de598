#include "worker/trainer/kernels/launch_plan.h"

#include <gtest/gtest.h>

namespace studio::kernels {
namespace {

Layout At(uint64_t address, std::vector<int64_t> strides) { return {address, 2, std::move(strides)}; }

TEST(WidestAccess, AsksOfExtentsStridesAndAddresses) {
  EXPECT_EQ(WidestAccess({8, 4, 1}, {2048}, {At(256, {2112})}), 8);
  EXPECT_EQ(WidestAccess({8, 4, 1}, {12}, {At(256, {2112})}), 4) << "half a head of 24";
  EXPECT_EQ(WidestAccess({8, 1}, {12}, {At(256, {2112})}), 1) << "no such kernel";
  EXPECT_EQ(WidestAccess({8, 1}, {2048}, {At(256, {2112}), At(256, {2049})}), 1) << "every second row is off";
  EXPECT_EQ(WidestAccess({8, 1}, {2048}, {At(248, {2112})}), 1) << "starts between";
  EXPECT_EQ(WidestAccess({8, 4, 1}, {2048}, {At(248, {2112})}), 4);
}

TEST(RowLaunch, GivesEachThreadOneAccessWhileABlockHasThreadsEnough) {
  const auto launch = RowLaunch("rms_forward", at::kBFloat16, 8, 16384, 2048);
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->kernel, "rms_forward_bf16_v8_p1");
  EXPECT_EQ(launch->grid, 16384u);
  EXPECT_EQ(launch->block, 256u);
  EXPECT_EQ(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 576)->block, 96u) << "whole warps";
  EXPECT_EQ(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 8200)->kernel, "rms_forward_bf16_v8_p2");
  EXPECT_EQ(RowLaunch("rms_forward", at::kFloat, 4, 1, 8192)->kernel, "rms_forward_f32_v4_p4");
  EXPECT_EQ(RowLaunch("rms_forward", at::kFloat, 1, 1, 77)->kernel, "rms_forward_f32_v1_p8");
}

TEST(RowLaunch, HasNothingForRowsLongerThanABlocksRegisters) {
  EXPECT_TRUE(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 16384));
  EXPECT_FALSE(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 16392));
  EXPECT_FALSE(RowLaunch("rms_forward", at::kBFloat16, 1, 1, 8193));
}

TEST(FlatLaunch, CountsIn32Bits) {
  EXPECT_EQ(FlatLaunch("rope", at::kBFloat16, 4, 257)->grid, 2u);
  EXPECT_EQ(FlatLaunch("rope", at::kBFloat16, 4, 257)->kernel, "rope_bf16_v4");
  EXPECT_FALSE(FlatLaunch("rope", at::kBFloat16, 8, int64_t{1} << 31));
}

}  // namespace
}  // namespace studio::kernels
