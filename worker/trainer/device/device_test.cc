// Conformance: what must hold on every device that the machine has. Linked for CUDA it runs on the cards too.
#include "worker/trainer/device/device.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/zeros.h>

#include "absl/time/clock.h"
#include "common/status/testing.h"
#include "worker/trainer/device/runtime.h"
#include "worker/trainer/device/traits.h"
#include "worker/trainer/device/utilization.h"

namespace studio {
namespace {

using testing::HasSubstr;

class EveryDevice : public testing::TestWithParam<at::Device> {};
INSTANTIATE_TEST_SUITE_P(Here, EveryDevice, testing::ValuesIn(AllDevices()), [](const auto& device) {
  return std::string(c10::DeviceTypeName(device.param.type())) +
         (device.param.has_index() ? std::to_string(device.param.index()) : "");
});

TEST_P(EveryDevice, IsWhatChoosingItGives) {
  const v1::Backend backend = TraitsOf(GetParam()).backend;
  ASSERT_OK_AND_ASSIGN(const at::Device device, ChooseDevice(backend, GetParam().has_index() ? GetParam().index() : 0));
  EXPECT_EQ(device, GetParam());
  EXPECT_GE(DeviceCount(backend), 1);
  if (backend != v1::CPU) {
    EXPECT_THAT(ChooseDevice(backend, DeviceCount(backend)),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("does not exist")));
  }
}

TEST_P(EveryDevice, SynchroniseWaitsForWhatIsQueued) {
  const at::TensorOptions options(GetParam());
  at::Tensor product = at::ones({1024, 1024}, options);
  for (int i = 0; i < 10; ++i) product = at::matmul(product, product) / 1024;
  Synchronise(GetParam());
  EXPECT_TRUE(product.isfinite().all().item<bool>());
}

TEST_P(EveryDevice, IsBusyWhileItMultiplies) {
  Utilization utilization(GetParam());
  const at::Tensor factor = at::ones({1024, 1024}, at::TensorOptions(GetParam()));
  double read = utilization.Read();
  // NVML's figure is of a period that has ended: until it has seen this.
  const absl::Time deadline = absl::Now() + absl::Seconds(20);
  while (read == 0 && absl::Now() < deadline) {
    for (int i = 0; i < 20; ++i) at::matmul(factor, factor);
    Synchronise(GetParam());
    read = utilization.Read();
  }
  if (GetParam().is_mps()) {
    EXPECT_EQ(read, 0);
  } else {
    EXPECT_GT(read, 0);
    EXPECT_LE(read, 1);
  }
}

TEST_P(EveryDevice, MemoryIsCounted) {
  const int64_t before = PeakMemoryBytes(GetParam());
  {
    const at::Tensor large = at::zeros({256 << 20}, at::TensorOptions(GetParam()).dtype(at::kByte)).fill_(1);
    Synchronise(GetParam());
  }
  EXPECT_GE(PeakMemoryBytes(GetParam()), before + (200 << 20));
  const DeviceMemory memory = ReadDeviceMemory(GetParam());
  EXPECT_GT(memory.free_bytes, 0);
  EXPECT_GT(memory.total_bytes, int64_t{1} << 30);
  EXPECT_LE(memory.free_bytes, memory.total_bytes);
}

TEST_P(EveryDevice, EmptyCacheGivesMemoryBack) {
  { const at::Tensor large = at::zeros({256 << 20}, at::TensorOptions(GetParam()).dtype(at::kByte)); }
  EmptyCache(GetParam());
  const int64_t before = ReadDeviceMemory(GetParam()).free_bytes;
  { const at::Tensor large = at::zeros({256 << 20}, at::TensorOptions(GetParam()).dtype(at::kByte)); }
  EmptyCache(GetParam());
  Synchronise(GetParam());
  // The host's free memory is others' business too.
  if (!GetParam().is_cpu()) {
    EXPECT_GE(ReadDeviceMemory(GetParam()).free_bytes, before - (64 << 20));
  }
}

TEST_P(EveryDevice, RandomNumbersFollowSeedAndState) {
  // LibTorch's own generator is what is looked at here.
  const auto draw = [&] { return at::rand({1000}, at::TensorOptions(GetParam())); };  // lint: allowed
  SeedRandom(GetParam(), 7);
  const at::Tensor first = draw();
  const at::Tensor state = RandomState(GetParam());
  const at::Tensor second = draw();
  EXPECT_FALSE(at::equal(first, second));
  SetRandomState(GetParam(), state);
  EXPECT_TRUE(at::equal(draw(), second));
  SeedRandom(GetParam(), 7);
  EXPECT_TRUE(at::equal(draw(), first));
  SeedRandom(GetParam(), 8);
  EXPECT_FALSE(at::equal(draw(), first));
}

TEST_P(EveryDevice, ComputesInTheTypeThatIsChosenForIt) {
  for (const auto asked : {v1::Architecture::DTYPE_AUTO, v1::Architecture::FLOAT32, v1::Architecture::BFLOAT16}) {
    ASSERT_OK_AND_ASSIGN(const at::ScalarType type, ComputeType(asked, TraitsOf(GetParam())));
    const at::Tensor ones = at::zeros({64, 64}, at::TensorOptions(GetParam()).dtype(type)) + 1;
    EXPECT_EQ(at::matmul(ones, ones)[0][0].item<double>(), 64);
  }
}

TEST(ChooseDevice, NeverFallsBackSilently) {
  if (DeviceCount(v1::MPS) > 0) GTEST_SKIP() << "needs a machine without Metal";
  EXPECT_THAT(ChooseDevice(v1::MPS, 0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("MPS was asked for")));
}

TEST(FlashAttention, NeedsAnAmpereCardHalfPrecisionAndHeadsThatFit) {
  const DeviceTraits ampere = {.backend = v1::CUDA, .compute_capability = "8.0"};
  EXPECT_EQ(WhyNoFlashAttention(ampere, at::kBFloat16, 64), "");
  EXPECT_EQ(WhyNoFlashAttention(ampere, at::kHalf, 256), "");
  EXPECT_THAT(WhyNoFlashAttention(ampere, at::kFloat, 64), HasSubstr("BFLOAT16 or FLOAT16 alone"));
  EXPECT_THAT(WhyNoFlashAttention(ampere, at::kBFloat16, 264), HasSubstr("this model's have 264"));
  EXPECT_THAT(WhyNoFlashAttention(ampere, at::kBFloat16, 20), HasSubstr("this model's have 20"));
  for (const char* old : {"7.5", "7.0", ""}) {
    const DeviceTraits traits = {.backend = v1::CUDA, .compute_capability = old};
    EXPECT_THAT(WhyNoFlashAttention(traits, at::kHalf, 64), HasSubstr("needs compute capability 8.0")) << old;
  }
  EXPECT_THAT(WhyNoFlashAttention({.backend = v1::MPS}, at::kHalf, 64), HasSubstr("needs CUDA, this is MPS"));
  EXPECT_EQ(WhyNoFlashAttention({.backend = v1::CUDA, .compute_capability = "10.0"}, at::kHalf, 64), "");
}

TEST(ComputeType, IsBfloat16WhereThatIsFast) {
  EXPECT_EQ(*ComputeType(v1::Architecture::DTYPE_AUTO, {.backend = v1::CUDA, .fast_bf16 = true}), at::kBFloat16);
  EXPECT_EQ(*ComputeType(v1::Architecture::DTYPE_AUTO, {.backend = v1::CUDA}), at::kFloat);
  EXPECT_EQ(*ComputeType(v1::Architecture::FLOAT16, {.backend = v1::MPS}), at::kHalf);
  EXPECT_THAT(ComputeType(v1::Architecture::FLOAT16, {.backend = v1::CPU}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("FLOAT16")));
}

}  // namespace
}  // namespace studio
