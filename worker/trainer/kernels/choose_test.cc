// Linked without CUDA, as studio-trainer is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/env/memory_env.h"
#include "worker/trainer/kernels/cuda_operations.h"

namespace studio::kernels {
namespace {

TEST(ChooseOperations, TakesLibTorchsOnACpuWithoutANote) {
  MemoryEnv env;
  CubinCache cache(env, "");
  const Chosen chosen = ChooseOperations(at::kCPU, cache);
  EXPECT_EQ(chosen.operations->name(), "ATen");
  EXPECT_EQ(chosen.note, "");
}

TEST(ChooseOperations, SaysWhyADeviceGoesWithoutOurKernels) {
  MemoryEnv env;
  CubinCache cache(env, "");
  const Chosen absent = ChooseOperations(at::Device(at::kCUDA, 99), cache);  // no machine has so many
  EXPECT_EQ(absent.operations->name(), "ATen");
  EXPECT_THAT(absent.note, testing::HasSubstr("LibTorch's operations"));
  EXPECT_THAT(absent.note, testing::AnyOf(testing::HasSubstr("no NVIDIA driver"), testing::HasSubstr("cuda:99")));
}

}  // namespace
}  // namespace studio::kernels
