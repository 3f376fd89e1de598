#include <cstdlib>

#include "common/status/testing.h"
#include "worker/trainer/probe/bitsandbytes.h"
#include "worker/trainer/probe/inventory.h"
#include "worker/trainer/probe/optional_libraries.h"

namespace studio {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

TEST(Inventory, DescribesThisMachineAsACpuInTheCpuFlavour) {
  const v1::Inventory inventory = TakeInventory();
  EXPECT_EQ(inventory.backend(), v1::CPU);
  ASSERT_THAT(inventory.devices(), SizeIs(1));
  EXPECT_EQ(inventory.devices(0).id(), "cpu:0");
  EXPECT_EQ(inventory.devices(0).total_memory_bytes(), inventory.host_memory_bytes());
  EXPECT_LE(inventory.devices(0).allocatable_memory_bytes(), inventory.host_memory_bytes());
  EXPECT_GT(inventory.devices(0).used_memory_bytes(), 0);
  EXPECT_GE(inventory.cpu_cores(), 1);
  EXPECT_FALSE(inventory.hostname().empty());
  EXPECT_FALSE(inventory.libtorch_version().empty());
  EXPECT_TRUE(inventory.needs_data());
#if defined(__aarch64__)
  EXPECT_EQ(inventory.arch(), v1::ARM64);
#else
  EXPECT_EQ(inventory.arch(), v1::X86_64);
#endif
}

TEST(OptionalLibraries, BitsandbytesIsWhatHasItsFunctions) {
  unsetenv("STUDIO_BITSANDBYTES");
  const std::set<std::string> without = FindOptionalLibraries(/*cuda=*/false);
  ASSERT_EQ(setenv("STUDIO_BITSANDBYTES", "/no/such/library.so", 1), 0);
  EXPECT_EQ(FindOptionalLibraries(/*cuda=*/false), without) << "a wrong path is no error";
  EXPECT_THAT(OpenBitsandbytes(/*cuda=*/false),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/library.so; set STUDIO_BITSANDBYTES")));
  // It exists and loads, but is another library.
  ASSERT_EQ(setenv("STUDIO_BITSANDBYTES", "libdl.so.2", 1), 0);
  EXPECT_THAT(OpenBitsandbytes(/*cuda=*/false),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("it has no cquantize_blockwise_cpu_fp32")));
  unsetenv("STUDIO_BITSANDBYTES");
}

}  // namespace
}  // namespace studio
