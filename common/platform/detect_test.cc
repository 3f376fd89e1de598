#include "common/platform/detect.h"

#include "common/platform/features.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr int64_t kGiB = int64_t{1} << 30;

MachineFacts Machine(const std::string& machine) {
  return {.machine = machine,
          .os = "Linux 6.1.0",
          .hostname = "n1",
          .cores = 72,
          .host_total_bytes = 480 * kGiB,
          .host_allocatable_bytes = 400 * kGiB,
          .host_used_bytes = 10 * kGiB};
}

CudaFacts Card(const std::string& name, const std::string& capability, int64_t gib) {
  return {.name = name,
          .compute_capability = capability,
          .driver = "13.0",
          .total_bytes = gib * kGiB,
          .free_bytes = (gib - 1) * kGiB};
}

TEST(DetectArch, KnowsBothInAnyLetterCase) {
  for (const char* name : {"arm64", "aarch64", "ARM64", "AArch64"}) {
    EXPECT_EQ(DetectArch(name).arch, v1::ARM64) << name;
    EXPECT_TRUE(DetectArch(name).known) << name;
  }
  for (const char* name : {"x86_64", "amd64", "AMD64", "X86_64"}) {
    EXPECT_EQ(DetectArch(name).arch, v1::X86_64) << name;
    EXPECT_TRUE(DetectArch(name).known) << name;
  }
}

TEST(DetectArch, TreatsTheUnknownAsX86WithAWarning) {
  for (const char* name : {"riscv64", "ppc64le", "armv7l", "i686", "", "aarch64_be"}) {
    EXPECT_EQ(DetectArch(name).arch, v1::X86_64) << name;
    EXPECT_FALSE(DetectArch(name).known) << name;
  }
  EXPECT_THAT(DescribeMachine(Machine("riscv64")).notes(), ElementsAre(HasSubstr("\"riscv64\" is not known")));
  EXPECT_THAT(DescribeMachine(Machine("AMD64")).notes(), IsEmpty());
}

TEST(DetectBackend, PrefersCudaThenMpsThenCpu) {
  EXPECT_EQ(DetectBackend(2, true), v1::CUDA);
  EXPECT_EQ(DetectBackend(1, false), v1::CUDA);
  EXPECT_EQ(DetectBackend(0, true), v1::MPS);
  EXPECT_EQ(DetectBackend(0, false), v1::CPU);
}

TEST(DescribeMachine, ACpuBox) {
  MachineFacts facts = Machine("x86_64");
  facts.cpu_bf16 = true;
  const v1::Inventory inventory = DescribeMachine(facts);
  EXPECT_EQ(inventory.backend(), v1::CPU);
  ASSERT_THAT(inventory.devices(), SizeIs(1));
  const v1::Device& device = inventory.devices(0);
  EXPECT_EQ(device.id(), "cpu:0");
  EXPECT_EQ(device.total_memory_bytes(), 480 * kGiB);
  EXPECT_EQ(device.allocatable_memory_bytes(), 400 * kGiB);
  EXPECT_FALSE(device.unified_memory());
  EXPECT_THAT(inventory.features(), ElementsAre("bf16", "sdpa"));
}

TEST(DescribeMachine, AGraceHopper) {
  MachineFacts facts = Machine("aarch64");
  facts.cuda = {Card("NVIDIA GH200 480GB", "9.0", 96)};
  facts.cuda[0].coherent = true;
  facts.libraries = {features::kNccl, features::kNvml};
  const v1::Inventory inventory = DescribeMachine(facts);
  EXPECT_EQ(inventory.arch(), v1::ARM64);
  EXPECT_EQ(inventory.backend(), v1::CUDA);
  const v1::Device& device = inventory.devices(0);
  EXPECT_TRUE(device.unified_memory());
  EXPECT_EQ(device.total_memory_bytes(), 96 * kGiB) << "its own memory, not the CPU's beside it";
  EXPECT_EQ(device.used_memory_bytes(), kGiB);
  EXPECT_EQ(device.compute_capability(), "9.0");
  EXPECT_EQ(device.driver(), "13.0");
  EXPECT_EQ(device.mig_slice(), "");
  EXPECT_THAT(inventory.features(), ElementsAre("bf16", "flash_attention_2", "fp16", "nccl", "nvml", "sdpa"));
}

TEST(DescribeMachine, SlicesOfAnH100) {
  MachineFacts facts = Machine("x86_64");
  facts.cuda = {Card("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "9.0", 10), Card("NVIDIA H100 80GB HBM3", "9.0", 80)};
  const v1::Inventory inventory = DescribeMachine(facts);
  EXPECT_EQ(inventory.devices(0).mig_slice(), "1g.10gb");
  EXPECT_EQ(inventory.devices(0).id(), "cuda:0");
  EXPECT_EQ(inventory.devices(1).mig_slice(), "");
  EXPECT_EQ(inventory.devices(1).id(), "cuda:1");
  EXPECT_FALSE(inventory.devices(1).unified_memory());
}

TEST(DescribeMachine, AFeatureThatOneCardLacksIsNone) {
  MachineFacts facts = Machine("x86_64");
  facts.cuda = {Card("NVIDIA H100", "9.0", 80), Card("Tesla V100", "7.0", 32)};
  EXPECT_THAT(DescribeMachine(facts).features(), Not(Contains("bf16")));
  facts.cuda.pop_back();
  EXPECT_THAT(DescribeMachine(facts).features(), Contains("bf16"));
}

TEST(DescribeMachine, AMacsGpuHasItsWorkingSetAndNotItsMemory) {
  MachineFacts facts = Machine("arm64");
  facts.metal = MetalFacts{.working_set_bytes = 300 * kGiB};
  const v1::Inventory inventory = DescribeMachine(facts);
  EXPECT_EQ(inventory.backend(), v1::MPS);
  EXPECT_EQ(inventory.devices(0).id(), "mps:0");
  EXPECT_EQ(inventory.devices(0).total_memory_bytes(), 480 * kGiB);
  EXPECT_EQ(inventory.devices(0).allocatable_memory_bytes(), 300 * kGiB);
  EXPECT_TRUE(inventory.devices(0).unified_memory());
}

TEST(DescribeMachine, ADriverThatServesNothingIsSaid) {
  MachineFacts facts = Machine("x86_64");
  facts.unused_driver = "12.8";
  facts.libtorch_cuda = "13.0";
  const v1::Inventory inventory = DescribeMachine(facts);
  EXPECT_EQ(inventory.backend(), v1::CPU) << "no error";
  EXPECT_THAT(inventory.notes(), ElementsAre(AllOf(HasSubstr("driver for CUDA 12.8"), HasSubstr("LIBTORCH=2.7.1"))));
}

TEST(IsAmpereOrLater, ComparesNumbersNotLetters) {
  for (const char* yes : {"8.0", "8.9", "9.0", "10.0", "12.1"}) EXPECT_TRUE(IsAmpereOrLater(yes)) << yes;
  for (const char* no : {"7.5", "7.0", "", "x", "."}) EXPECT_FALSE(IsAmpereOrLater(no)) << no;
}

}  // namespace
}  // namespace studio
