#include "common/platform/describe.h"

#include <fstream>
#include <iterator>

#include "common/platform/features.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;

TEST(MatrixAsMarkdown, IsTheTableOfThePlatformPage) {
  std::ifstream file("docs/platforms.md", std::ios::binary);
  ASSERT_TRUE(file);
  const std::string page(std::istreambuf_iterator<char>(file), {});
  EXPECT_THAT(page, HasSubstr("\n\n" + MatrixAsMarkdown() + "\n"))
      << "common/platform/matrix.cc changed: replace the table by what bazel run //common/platform:print_matrix prints";
}

TEST(DescribeInventory, SaysWhatTheMachineIsAndCan) {
  v1::Inventory inventory;
  inventory.set_hostname("n1");
  inventory.set_arch(v1::X86_64);
  inventory.set_machine("x86_64");
  inventory.set_backend(v1::CUDA);
  inventory.set_host_memory_bytes(int64_t{64} << 30);
  inventory.add_features(features::kFlashAttention2);
  inventory.add_notes("an odd thing");
  v1::Device& device = *inventory.add_devices();
  device.set_id("cuda:0");
  device.set_name("NVIDIA H100 80GB HBM3 MIG 1g.10gb");
  device.set_total_memory_bytes(int64_t{10} << 30);
  device.set_allocatable_memory_bytes(int64_t{10} << 30);
  device.set_compute_capability("9.0");
  device.set_driver("13.0 580.82.07");
  device.set_mig_slice("1g.10gb");
  const std::string text = DescribeInventory(inventory);
  EXPECT_THAT(text, HasSubstr("arch        X86_64 (x86_64)\n"));
  EXPECT_THAT(text, HasSubstr("device      cuda:0  NVIDIA H100 80GB HBM3 MIG 1g.10gb, 10.0 GiB, 10.0 GiB allocatable, "
                              "0.0 GiB in use, compute capability 9.0, driver for CUDA 13.0 580.82.07, MIG slice "
                              "1g.10gb\n"));
  EXPECT_THAT(text, HasSubstr("note        an odd thing\n"));
  EXPECT_THAT(text, HasSubstr("attention   FLASH_ATTENTION_2: yes\n"));
  EXPECT_THAT(text, HasSubstr("optimizer   ADAMW8BIT: with bitsandbytes, else ADAMW\n"));
  EXPECT_THAT(InventoryAsJson(inventory), HasSubstr("\"compute_capability\": \"9.0\""));
  inventory.set_backend(v1::CPU);
  EXPECT_THAT(DescribeInventory(inventory), HasSubstr("attention   FLASH_ATTENTION_2: never: SDPA\n"));
}

}  // namespace
}  // namespace studio
