#include "worker/agent/inventory.h"

#include <string>

#include "common/status/testing.h"

namespace studio::worker {
namespace {

using testing::HasSubstr;

v1::Inventory Machine(v1::Backend backend) {
  v1::Inventory inventory;
  inventory.set_backend(backend);
  v1::Device& device = *inventory.add_devices();
  device.set_id("cpu:0");
  device.set_backend(backend);
  device.set_total_memory_bytes(900);
  device.set_allocatable_memory_bytes(600);
  return inventory;
}

TEST(OfferCpuRanks, MakesDevicesThatShareTheMemory) {
  v1::Inventory inventory = Machine(v1::CPU);
  ASSERT_OK(OfferCpuRanks(inventory, 3));
  ASSERT_EQ(inventory.devices_size(), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(inventory.devices(i).id(), "cpu:" + std::to_string(i));
    EXPECT_EQ(inventory.devices(i).total_memory_bytes(), 300);
    EXPECT_EQ(inventory.devices(i).allocatable_memory_bytes(), 200);
  }
}

TEST(OfferCpuRanks, LeavesOtherMachinesAlone) {
  v1::Inventory inventory = Machine(v1::CUDA);
  EXPECT_OK(OfferCpuRanks(inventory, 1));
  EXPECT_THAT(OfferCpuRanks(inventory, 2), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("CUDA")));
  EXPECT_EQ(inventory.devices_size(), 1);
}

}  // namespace
}  // namespace studio::worker
