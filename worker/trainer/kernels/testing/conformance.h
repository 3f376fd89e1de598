// What every implementation of Operations must do, as tests over (implementation, device, type). A binary brings the
// implementations:
//
//   INSTANTIATE_TEST_SUITE_P(Cpu, OperationsTest, testing::Values(Backend{"aten", at::kCPU, at::kFloat, &ops}), Name);
//
// References are in fp64 on the CPU, by LibTorch's autograd where there is a gradient.
#pragma once

#include <ATen/core/TensorBody.h>
#include <gtest/gtest.h>

#include <string>

#include "worker/trainer/kernels/operations.h"

namespace studio::kernels {

struct Backend {
  std::string name;
  at::Device device = at::kCPU;
  at::ScalarType type = at::kFloat;
  const Operations* operations = nullptr;  // outlives the tests; null: skipped, there is no device
};
inline std::string BackendName(const testing::TestParamInfo<Backend>& info) { return info.param.name; }

class OperationsTest : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (GetParam().operations == nullptr) GTEST_SKIP() << "no device for " << GetParam().name;
  }

  const Operations& ops() const { return *GetParam().operations; }
  bool bf16() const { return GetParam().type == at::kBFloat16; }

  // Standard normal, of the backend's type, on its device; another draw each call, the same each run.
  at::Tensor Normal(at::IntArrayRef sizes);
  // The same as rows of a wider buffer: `border` more columns that no operation may touch.
  at::Tensor NormalRows(int64_t rows, int64_t width, int64_t border);
  at::Tensor EmptyRows(int64_t rows, int64_t width, int64_t border);  // of NaN
  at::Tensor Floats(at::IntArrayRef sizes, double value);             // fp32
  at::Tensor OnDevice(const at::Tensor& x) const { return x.to(GetParam().device); }

  // ||x - reference|| / ||reference|| at most `wide` for fp32 and `narrow` for bf16; NaN nowhere.
  void ExpectClose(const at::Tensor& x, const at::Tensor& reference, double wide, double narrow, const char* what);
  // The columns beside a view of NormalRows or EmptyRows are as they were.
  static void ExpectBorderKept(const at::Tensor& rows, const char* what);

 private:
  uint64_t draws_ = 0;
};

// Of tokens and a step of no meaning, for up to three adapters; without ids for none.
AdapterDropout SomeDropout(int64_t rows, int64_t adapters, double p, at::Device device);
// fp64 on the CPU: x where adapter `which` keeps it, times 1 / (1 - p); x itself without ids.
at::Tensor ExactDropped(const at::Tensor& x, const AdapterDropout& dropout, size_t which = 0);

// fp64 on the CPU.
at::Tensor Exact(const at::Tensor& x);
// The same as a leaf that requires a gradient.
at::Tensor ExactLeaf(const at::Tensor& x);

}  // namespace studio::kernels
