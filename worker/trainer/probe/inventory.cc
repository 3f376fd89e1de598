#include "worker/trainer/probe/inventory.h"

#include <optional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "worker/trainer/probe/cuda_driver.h"
#include "worker/trainer/probe/device.h"
#include "worker/trainer/probe/host.h"
#include "common/version/version.h"

namespace studio {
namespace {

v1::Arch ArchOf(const std::string& machine) {
  if (machine == "aarch64" || machine == "arm64") return v1::ARM64;
  return v1::X86_64;
}

void FillHost(const HostMemory& memory, v1::Device& device) {
  device.set_total_memory_bytes(memory.total_bytes);
  device.set_allocatable_memory_bytes(memory.allocatable_bytes);
  device.set_used_memory_bytes(memory.used_bytes);
}

void FillCuda(int index, v1::Device& device) {
  const DeviceMemory memory = ReadDeviceMemory({at::kCUDA, static_cast<at::DeviceIndex>(index)});
  device.set_total_memory_bytes(memory.total_bytes);
  device.set_allocatable_memory_bytes(memory.total_bytes);
  device.set_used_memory_bytes(memory.total_bytes - memory.free_bytes);
  const std::optional<CudaDeviceInfo> info = ReadCudaDevice(index);
  if (!info) return;
  device.set_name(info->name);
  device.set_compute_capability(info->compute_capability);
  device.set_driver(info->driver);
  // GH200's memories are apart but coherent; the name is how it can be told.
  device.set_unified_memory(info->integrated || info->name.find("GH200") != std::string::npos);
}

}  // namespace

v1::Inventory TakeInventory() {
  const HostNames names = ReadHostNames();
  const HostMemory memory = ReadHostMemory();
  v1::Inventory inventory;
  inventory.set_arch(ArchOf(names.machine));
  inventory.set_machine(names.machine);
  inventory.set_os(names.os);
  inventory.set_hostname(names.hostname);
  inventory.set_backend(BestBackend());
  inventory.set_cpu_cores(HostCores());
  inventory.set_host_memory_bytes(memory.total_bytes);
  inventory.set_trainer_version(kVersion);
  inventory.set_libtorch_version(STUDIO_LIBTORCH_VERSION);
  inventory.set_needs_data(true);

  std::set<std::string> features = {"sdpa"};
  for (int i = 0; i < DeviceCount(inventory.backend()); ++i) {
    v1::Device& device = *inventory.add_devices();
    device.set_backend(inventory.backend());
    switch (inventory.backend()) {
      case v1::CUDA:
        device.set_id(absl::StrCat("cuda:", i));
        FillCuda(i, device);
        // bfloat16 arithmetic begins with Ampere (8.0).
        if (device.compute_capability() >= "8" || device.compute_capability().size() > 3) {
          features.insert({"bf16", "flash_attention_2"});
        }
        features.insert("fp16");
        break;
      case v1::MPS:
        device.set_id("mps:0");
        device.set_name("Apple GPU");
        FillHost(memory, device);
        device.set_unified_memory(true);
        features.insert("fp16");
        break;
      default:
        device.set_id("cpu:0");
        device.set_name(absl::StrCat(names.machine, " CPU"));
        FillHost(memory, device);
        if (CpuHasNativeBf16()) features.insert("bf16");
    }
  }
  inventory.mutable_features()->Add(features.begin(), features.end());
  return inventory;
}

}  // namespace studio
