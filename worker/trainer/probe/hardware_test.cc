// What the probe says of real hardware. Each test names the machine that it needs and skips elsewhere, saying so.
#include <ATen/ops/zeros.h>

#include "common/platform/markers.h"
#include "common/status/testing.h"
#include "worker/trainer/device/runtime.h"
#include "worker/trainer/probe/inventory.h"

namespace studio {
namespace {

using testing::MatchesRegex;

const v1::Inventory& Here() {
  static const v1::Inventory& inventory = *new v1::Inventory(TakeInventory());
  return inventory;
}

// A hundred million bytes on the device are seen by its memory figures.
void ExpectMemoryIsCounted(at::Device device) {
  const at::Tensor tensor = at::zeros({100'000'000}, at::TensorOptions(device).dtype(at::kByte));
  EXPECT_GE(PeakMemoryBytes(device), 100'000'000);
}

TEST(X86_64, IsWhatTheProbeSays) {
  SKIP_UNLESS("x86_64", Here());
  EXPECT_EQ(Here().arch(), v1::X86_64);
  EXPECT_EQ(Here().machine(), "x86_64");
  EXPECT_EQ(Here().notes_size(), 0) << Here().ShortDebugString();
}

TEST(Cuda, EveryDeviceHasItsFigures) {
  SKIP_UNLESS("requires_cuda", Here());
  ASSERT_GT(Here().devices_size(), 0);
  for (const v1::Device& device : Here().devices()) {
    EXPECT_THAT(device.id(), MatchesRegex("cuda:[0-9]+"));
    EXPECT_FALSE(device.name().empty());
    EXPECT_THAT(device.compute_capability(), MatchesRegex("[0-9]+\\.[0-9]+"));
    EXPECT_THAT(device.driver(), MatchesRegex("[0-9]+\\.[0-9]+( .*)?"));
    EXPECT_GT(device.total_memory_bytes(), int64_t{1} << 30);
    EXPECT_LE(device.allocatable_memory_bytes(), device.total_memory_bytes());
    EXPECT_GE(device.used_memory_bytes(), 0);
  }
}

TEST(Cuda, MemoryIsCounted) {
  SKIP_UNLESS("requires_cuda", Here());
  ExpectMemoryIsCounted(at::Device(at::kCUDA, 0));
}

TEST(Arm64Cuda, AGraceHoppersMemoryIsCoherent) {
  SKIP_UNLESS("arm64_cuda", Here());
  for (const v1::Device& device : Here().devices()) {
    if (device.name().find("GH200") == std::string::npos && device.name().find("GB200") == std::string::npos) continue;
    EXPECT_TRUE(device.unified_memory()) << device.ShortDebugString();
  }
}

TEST(Mps, MayUseLessThanTheMacHas) {
  SKIP_UNLESS("requires_mps", Here());
  const v1::Device& device = Here().devices(0);
  EXPECT_EQ(device.id(), "mps:0");
  EXPECT_TRUE(device.unified_memory());
  EXPECT_LT(device.allocatable_memory_bytes(), device.total_memory_bytes());
  EXPECT_GT(device.allocatable_memory_bytes(), device.total_memory_bytes() / 2);
}

TEST(Arm64Mps, IsAnAppleGpu) {
  SKIP_UNLESS("arm64_mps", Here());
  EXPECT_EQ(Here().arch(), v1::ARM64);
}

TEST(Gpu, AHalfPrecisionFeatureIsThere) {
  SKIP_UNLESS("requires_gpu", Here());
  EXPECT_THAT(Here().features(), testing::Contains("fp16"));
}

}  // namespace
}  // namespace studio
