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

TEST(RowLaunch, GivesAThreadMoreAccessesRatherThanABlockMoreThreads) {
  const auto launch = RowLaunch("rms_forward", at::kBFloat16, 8, 16384, 2048, 256);
  ASSERT_TRUE(launch);
  EXPECT_EQ(launch->kernel, "rms_forward_bf16_v8_p1");
  EXPECT_EQ(launch->grid, 16384u);
  EXPECT_EQ(launch->block, 256u);
  EXPECT_EQ(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 576, 256)->block, 96u) << "whole warps";
  EXPECT_EQ(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 4096, 256)->kernel, "rms_forward_bf16_v8_p2");
  EXPECT_EQ(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 4096, 1024)->kernel, "rms_forward_bf16_v8_p1");
  EXPECT_EQ(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 8192, 256)->kernel, "rms_forward_bf16_v8_p4");
  EXPECT_EQ(RowLaunch("rms_forward", at::kFloat, 4, 1, 8192, 256)->block, 512u) << "more where it must";
  EXPECT_EQ(RowLaunch("rms_forward", at::kFloat, 1, 1, 77, 256)->kernel, "rms_forward_f32_v1_p8");
}

TEST(RowLaunch, HasNothingForRowsLongerThanABlocksRegisters) {
  EXPECT_EQ(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 16384, 256)->block, 1024u);
  EXPECT_FALSE(RowLaunch("rms_forward", at::kBFloat16, 8, 1, 16392, 256));
  EXPECT_FALSE(RowLaunch("rms_forward", at::kBFloat16, 1, 1, 8193, 256));
}

TEST(FlatLaunch, CountsIn32Bits) {
  EXPECT_EQ(FlatLaunch("rope", at::kBFloat16, 4, 257)->grid, 2u);
  EXPECT_EQ(FlatLaunch("rope", at::kBFloat16, 4, 257)->kernel, "rope_bf16_v4");
  EXPECT_FALSE(FlatLaunch("rope", at::kBFloat16, 8, int64_t{1} << 31));
}

constexpr DeviceLimits kHopper = {132, 227 << 10, 50 << 20};
constexpr DeviceLimits kAmpere = {108, 163 << 10, 40 << 20};

std::string CrossEntropyKernel(int64_t vocab, const DeviceLimits& device) {
  return CrossEntropyLaunch(at::kBFloat16, 2048, vocab, At(256, {vocab}), device).kernel;
}

TEST(CrossEntropyLaunch, KeepsARowThatTheCacheWouldLose) {
  const Launch llama = CrossEntropyLaunch(at::kBFloat16, 2048, 128256, At(256, {128256}), kHopper);
  EXPECT_EQ(llama.kernel, "cross_entropy_kept_bf16");
  EXPECT_EQ(llama.shared_bytes, 12u * 16384) << "16 accesses a thread, 4 of them in registers";
  EXPECT_EQ(CrossEntropyKernel(49152, kHopper), "cross_entropy_bf16") << "26 MB are under way";
  EXPECT_EQ(CrossEntropyKernel(128256, kAmpere), "cross_entropy_bf16") << "no room";
  EXPECT_EQ(CrossEntropyKernel(256000, kHopper), "cross_entropy_bf16") << "no room";
  EXPECT_EQ(CrossEntropyKernel(100003, kHopper), "cross_entropy_bf16") << "every second row is off";
}

TEST(PlanGluAdapters, FillsTheDeviceWholeTimes) {
  // 128 column blocks by 6 chunks are 768 blocks; 132 multiprocessors hold 396, so twice fills them.
  const auto plan = PlanGluAdapters(at::kBFloat16, 16384, 8192, 16, 132, {At(256, {16448})}, {At(256, {2112})});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->column_blocks, 128u);
  EXPECT_EQ(plan->chunks, 6);
  EXPECT_EQ(plan->chunk_rows, 2752) << "a multiple of 32";
  const auto small = PlanGluAdapters(at::kBFloat16, 500, 1536, 8, 132, {At(256, {3136})}, {At(256, {640})});
  EXPECT_EQ(small->chunk_rows, 128);
  EXPECT_EQ(small->chunks, 4);
  for (const int64_t rows : {1, 31, 4096, 100000}) {
    const auto any = PlanGluAdapters(at::kBFloat16, rows, 14336, 16, 132, {At(256, {28736})}, {At(256, {4160})});
    EXPECT_GE(any->chunks * any->chunk_rows, rows);
    EXPECT_LT((any->chunks - 1) * any->chunk_rows, rows) << "no chunk is empty";
    EXPECT_EQ(any->chunk_rows % 32, 0);
  }
}

TEST(PlanGluAdapters, LeavesWhatItCannotReadToTheProducts) {
  const Layout wide = At(256, {16448}), low = At(256, {2112});
  const auto plan = [](at::ScalarType type, int64_t width, int64_t rank, const Layout& wide, const Layout& low) {
    return PlanGluAdapters(type, 64, width, rank, 132, {wide}, {low}).has_value();
  };
  EXPECT_TRUE(plan(at::kBFloat16, 8192, 2, wide, low));
  EXPECT_FALSE(plan(at::kFloat, 8192, 16, wide, low));
  EXPECT_FALSE(plan(at::kBFloat16, 8192, 32, wide, low));
  EXPECT_FALSE(plan(at::kBFloat16, 8192, 15, wide, low));
  EXPECT_FALSE(plan(at::kBFloat16, 8200, 16, wide, low));
  EXPECT_FALSE(plan(at::kBFloat16, 8192, 16, At(256, {16449}), low));
  EXPECT_FALSE(plan(at::kBFloat16, 8192, 16, wide, At(258, {2112})));
}

TEST(PlanAdapterGradients, TakesFewTokensInOneGo) {
  EXPECT_EQ(PlanAdapterGradients(144, 512, 132).chunks, 1);
  const AdapterLaunch many = PlanAdapterGradients(144, 16384, 132);
  EXPECT_GT(many.chunks, 1);
  EXPECT_GE(many.chunks * many.chunk_rows, 16384);
  EXPECT_EQ(many.column_blocks, 144u);
}

TEST(ColumnsOfABlock, SplitsColumnsWhereTokensAreFew) {
  EXPECT_EQ(ColumnsOfABlock(65536, 2048, 132), 2048) << "1,024 blocks of 64 tokens fill the device";
  EXPECT_EQ(ColumnsOfABlock(512, 2048, 132), 256) << "8 blocks do not";
  EXPECT_EQ(ColumnsOfABlock(16384, 8192, 132), 4096);
  EXPECT_EQ(ColumnsOfABlock(1, 64, 132), 256);
}

}  // namespace
}  // namespace studio::kernels
