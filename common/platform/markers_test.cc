#include "common/platform/markers.h"

#include "common/status/testing.h"

namespace studio {
namespace {

v1::Inventory Machine(v1::Arch arch, v1::Backend backend) {
  v1::Inventory inventory;
  inventory.set_arch(arch);
  inventory.set_backend(backend);
  return inventory;
}

TEST(WhatLacks, FollowsTheTable) {
  struct Row {
    const char* marker;
    // GH200, H100 in x86-64, Mac, ARM64 CPU, x86-64 CPU.
    bool runs[5];
  };
  const v1::Inventory machines[5] = {Machine(v1::ARM64, v1::CUDA), Machine(v1::X86_64, v1::CUDA),
                                     Machine(v1::ARM64, v1::MPS), Machine(v1::ARM64, v1::CPU),
                                     Machine(v1::X86_64, v1::CPU)};
  for (const Row& row : {
           Row{"arm64_cuda", {true, false, false, false, false}},
           Row{"arm64_mps", {false, false, true, false, false}},
           Row{"x86_64", {false, true, false, false, true}},
           Row{"requires_gpu", {true, true, true, false, false}},
           Row{"requires_cuda", {true, true, false, false, false}},
           Row{"requires_mps", {false, false, true, false, false}},
           Row{"requires_cdua", {false, false, false, false, false}},
       }) {
    for (int i = 0; i < 5; ++i) EXPECT_EQ(WhatLacks(row.marker, machines[i]).empty(), row.runs[i]) << row.marker << i;
  }
}

TEST(WhatLacks, SaysWhatItNeedsAndWhatThereIs) {
  EXPECT_EQ(WhatLacks("requires_cuda", Machine(v1::X86_64, v1::CPU)),
            "requires_cuda: needs an NVIDIA card; this machine is X86_64 with CPU");
}

}  // namespace
}  // namespace studio
