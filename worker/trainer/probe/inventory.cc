#include "worker/trainer/probe/inventory.h"

#include <ATen/Context.h>

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/platform/detect.h"
#include "common/version/version.h"
#include "worker/trainer/device/device.h"
#include "worker/trainer/device/runtime.h"
#include "worker/trainer/probe/cuda_driver.h"
#include "worker/trainer/probe/host.h"
#include "worker/trainer/probe/nvml.h"
#include "worker/trainer/probe/optional_libraries.h"

namespace studio {
namespace {

CudaFacts FactsOfCuda(int index) {
  const DeviceMemory memory = ReadDeviceMemory({at::kCUDA, static_cast<at::DeviceIndex>(index)});
  CudaFacts facts{.total_bytes = memory.total_bytes, .free_bytes = memory.free_bytes};
  const std::optional<CudaDeviceInfo> info = ReadCudaDevice(index);
  if (!info) return facts;
  facts.name = info->name;
  facts.compute_capability = info->compute_capability;
  const std::string version = NvidiaDriverVersion();
  facts.driver = absl::StrCat(info->driver, version.empty() ? "" : " ", version);
  facts.integrated = info->integrated;
  facts.coherent = info->coherent;
  return facts;
}

MachineFacts AskMachine() {
  const HostNames names = ReadHostNames();
  const HostMemory memory = ReadHostMemory();
  MachineFacts facts{.machine = names.machine,
                     .os = names.os,
                     .hostname = names.hostname,
                     .cores = HostCores(),
                     .host_total_bytes = memory.total_bytes,
                     .host_allocatable_bytes = memory.allocatable_bytes,
                     .host_used_bytes = memory.used_bytes,
                     .cpu_bf16 = CpuHasNativeBf16()};
  for (int i = 0; i < DeviceCount(v1::CUDA); ++i) facts.cuda.push_back(FactsOfCuda(i));
  if (at::hasMPS()) {
    facts.metal.emplace();
    facts.metal->working_set_bytes = ReadDeviceMemory(at::Device(at::kMPS, 0)).total_bytes;
  }
  facts.libraries = FindOptionalLibraries(!facts.cuda.empty());
  if (facts.cuda.empty()) facts.unused_driver = CudaOfDriver();
  facts.libtorch_cuda = STUDIO_LIBTORCH_CUDA;
  return facts;
}

}  // namespace

v1::Inventory TakeInventory() {
  v1::Inventory inventory = DescribeMachine(AskMachine());
  inventory.set_trainer_version(kVersion);
  inventory.set_libtorch_version(STUDIO_LIBTORCH_VERSION);
  inventory.set_needs_data(true);
  return inventory;
}

}  // namespace studio
