// The conformance suite on a CUDA device, over our kernels and over LibTorch's operations. Without a device every test
// is skipped, aloud.
#include "worker/trainer/kernels/cuda_operations.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <thread>

#include "common/env/posix_env.h"
#include "worker/trainer/kernels/aten_operations.h"
#include "worker/trainer/kernels/testing/conformance.h"

namespace studio::kernels {
namespace {

const at::Device kDevice(at::kCUDA, 0);

absl::StatusOr<std::unique_ptr<Operations>> Make() {
  PosixEnv env;
  CubinCache cache(env, testing::TempDir() + "/kernels");
  return MakeCudaOperations(kDevice, cache);
}

// Null where there is no card.
const Operations* Ours() {
  static const std::unique_ptr<Operations> operations = [] {
    auto made = Make();
    if (!made.ok()) std::cerr << "skipped: " << made.status() << "\n";
    return made.ok() ? *std::move(made) : nullptr;
  }();
  return operations.get();
}
const Operations* Aten() {
  static const std::unique_ptr<Operations> operations = MakeAtenOperations();
  return Ours() == nullptr ? nullptr : operations.get();
}

INSTANTIATE_TEST_SUITE_P(Cuda, OperationsTest,
                         testing::Values(Backend{"ours_fp32", kDevice, at::kFloat, Ours()},
                                         Backend{"ours_bf16", kDevice, at::kBFloat16, Ours()},
                                         Backend{"aten_fp32", kDevice, at::kFloat, Aten()},
                                         Backend{"aten_bf16", kDevice, at::kBFloat16, Aten()}),
                         BackendName);

TEST(CudaOperations, RunFromAThreadThatHasNotSeenTheDevice) {
  if (Ours() == nullptr) GTEST_SKIP() << "no CUDA device";
  const auto options = at::TensorOptions().device(kDevice).dtype(at::kFloat);
  const at::Tensor flat = at::full({1000}, 2, options), sum = at::full({}, 0, options);

  std::thread([&] { Ours()->SumOfSquares(flat, sum); }).join();
  EXPECT_EQ(sum.item<double>(), 4000);
}

TEST(CudaOperations, AreMadeAgainFromTheCacheAndFreed) {
  if (Ours() == nullptr) GTEST_SKIP() << "no CUDA device";
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Make().ok());
}

}  // namespace
}  // namespace studio::kernels
