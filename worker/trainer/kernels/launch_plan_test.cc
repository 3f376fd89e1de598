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

TEST(CrossEntropyLaunch, KeepsTheRowWhereItFits) {
  const int64_t hopper = 227 << 10, ampere = 163 << 10;
  const Launch llama = CrossEntropyLaunch(at::kBFloat16, 2048, 128256, At(256, {128256}), hopper);
  EXPECT_EQ(llama.kernel, "cross_entropy_kept_bf16");
  EXPECT_EQ(llama.shared_bytes, 12u * 16384) << "16 accesses a thread, 4 of them in registers";
  EXPECT_EQ(CrossEntropyLaunch(at::kBFloat16, 2048, 128256, At(256, {128256}), ampere).kernel, "cross_entropy_bf16");
  EXPECT_EQ(CrossEntropyLaunch(at::kBFloat16, 2048, 50257, At(256, {50257}), hopper).kernel, "cross_entropy_bf16");
  EXPECT_EQ(CrossEntropyLaunch(at::kBFloat16, 2048, 256000, At(256, {256000}), hopper).shared_bytes, 0u);
  EXPECT_EQ(CrossEntropyLaunch(at::kBFloat16, 2048, 32000, At(256, {32000}), hopper).shared_bytes, 0u);
}

TEST(PlanGluAdapters, GivesTheDeviceSomeThousandBlocks) {
  const auto plan = PlanGluAdapters(at::kBFloat16, 16384, 8192, 16, {At(256, {16448})}, {At(256, {2112})});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->column_blocks, 128u);
  EXPECT_EQ(plan->chunk_rows, 1024);
  EXPECT_EQ(plan->chunks, 16);
  const auto small = PlanGluAdapters(at::kBFloat16, 500, 1536, 8, {At(256, {3136})}, {At(256, {640})});
  EXPECT_EQ(small->chunk_rows, 128);
  EXPECT_EQ(small->chunks, 4);
}

TEST(PlanGluAdapters, LeavesWhatItCannotReadToTheProducts) {
  const std::vector<Layout> wide = {At(256, {16448})}, low = {At(256, {2112})};
  EXPECT_TRUE(PlanGluAdapters(at::kBFloat16, 64, 8192, 2, wide, low));
  EXPECT_FALSE(PlanGluAdapters(at::kFloat, 64, 8192, 16, wide, low));
  EXPECT_FALSE(PlanGluAdapters(at::kBFloat16, 64, 8192, 32, wide, low));
  EXPECT_FALSE(PlanGluAdapters(at::kBFloat16, 64, 8192, 15, wide, low));
  EXPECT_FALSE(PlanGluAdapters(at::kBFloat16, 64, 8200, 16, wide, low));
  EXPECT_FALSE(PlanGluAdapters(at::kBFloat16, 64, 8192, 16, {At(256, {16449})}, low));
  EXPECT_FALSE(PlanGluAdapters(at::kBFloat16, 64, 8192, 16, wide, {At(258, {2112})}));
}

}  // namespace
}  // namespace studio::kernels
