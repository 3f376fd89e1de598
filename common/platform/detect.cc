#include "common/platform/detect.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/platform/driver_advice.h"
#include "common/platform/features.h"

namespace studio {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

void FillHostMemory(const MachineFacts& facts, v1::Device& device) {
  device.set_total_memory_bytes(facts.host_total_bytes);
  device.set_allocatable_memory_bytes(facts.host_allocatable_bytes);
  device.set_used_memory_bytes(facts.host_used_bytes);
}

void AddCudaDevices(const MachineFacts& facts, v1::Inventory& inventory, std::set<std::string>& found) {
  // A feature that one of the devices lacks is none: a job may get any of them.
  const bool ampere = std::all_of(facts.cuda.begin(), facts.cuda.end(),
                                  [](const CudaFacts& one) { return IsAmpereOrLater(one.compute_capability); });
  found.insert(features::kFp16);
  if (ampere) found.insert({features::kBf16, features::kFlashAttention2});
  for (const CudaFacts& one : facts.cuda) {
    v1::Device& device = *inventory.add_devices();
    device.set_id(absl::StrCat("cuda:", inventory.devices_size() - 1));
    device.set_backend(v1::CUDA);
    device.set_name(one.name);
    device.set_total_memory_bytes(one.total_bytes);
    device.set_allocatable_memory_bytes(one.total_bytes);
    device.set_used_memory_bytes(one.total_bytes - one.free_bytes);
    device.set_compute_capability(one.compute_capability);
    device.set_driver(one.driver);
    device.set_unified_memory(one.integrated || one.coherent);
    device.set_mig_slice(MigSliceOf(one.name));
  }
}

void AddMetalDevice(const MachineFacts& facts, v1::Inventory& inventory, std::set<std::string>& found) {
  v1::Device& device = *inventory.add_devices();
  device.set_id("mps:0");
  device.set_backend(v1::MPS);
  device.set_name("Apple GPU");
  FillHostMemory(facts, device);
  // Beyond it the system starts to swap or kills: the Mac's memory is not the GPU's.
  if (facts.metal->working_set_bytes > 0) device.set_allocatable_memory_bytes(facts.metal->working_set_bytes);
  device.set_unified_memory(true);
  found.insert(features::kFp16);
}

void AddCpu(const MachineFacts& facts, v1::Inventory& inventory, std::set<std::string>& found) {
  v1::Device& device = *inventory.add_devices();
  device.set_id("cpu:0");
  device.set_backend(v1::CPU);
  device.set_name(absl::StrCat(facts.machine, " CPU"));
  FillHostMemory(facts, device);
  if (facts.cpu_bf16) found.insert(features::kBf16);
}

}  // namespace

DetectedArch DetectArch(std::string_view machine) {
  const std::string name = absl::AsciiStrToLower(View(machine));
  if (name == "arm64" || name == "aarch64") return {v1::ARM64, true};
  return {v1::X86_64, name == "x86_64" || name == "amd64"};
}

v1::Backend DetectBackend(int cuda_devices, bool metal) {
  if (cuda_devices > 0) return v1::CUDA;
  return metal ? v1::MPS : v1::CPU;
}

std::string MigSliceOf(std::string_view device_name) {
  const size_t at = device_name.rfind(" MIG ");
  return at == device_name.npos ? "" : std::string(device_name.substr(at + 5));
}

bool IsAmpereOrLater(std::string_view compute_capability) {
  int major = 0;
  return absl::SimpleAtoi(View(compute_capability.substr(0, compute_capability.find('.'))), &major) && major >= 8;
}

v1::Inventory DescribeMachine(const MachineFacts& facts) {
  v1::Inventory inventory;
  const DetectedArch arch = DetectArch(facts.machine);
  inventory.set_arch(arch.arch);
  if (!arch.known) {
    inventory.add_notes(absl::StrCat("machine \"", facts.machine, "\" is not known and is treated as x86-64"));
  }
  inventory.set_machine(facts.machine);
  inventory.set_os(facts.os);
  inventory.set_hostname(facts.hostname);
  inventory.set_cpu_cores(facts.cores);
  inventory.set_host_memory_bytes(facts.host_total_bytes);
  inventory.set_backend(DetectBackend(static_cast<int>(facts.cuda.size()), facts.metal.has_value()));

  std::set<std::string> found = facts.libraries;
  found.insert(features::kSdpa);
  switch (inventory.backend()) {
    case v1::CUDA:
      AddCudaDevices(facts, inventory, found);
      break;
    case v1::MPS:
      AddMetalDevice(facts, inventory, found);
      break;
    default:
      AddCpu(facts, inventory, found);
  }
  if (!facts.unused_driver.empty()) {
    inventory.add_notes(absl::StrCat("an NVIDIA driver for CUDA ", facts.unused_driver,
                                     " is here, but this trainer sees no card by it: ",
                                     DriverAdvice(arch.arch, facts.unused_driver, facts.libtorch_cuda)));
  }
  inventory.mutable_features()->Add(found.begin(), found.end());
  return inventory;
}

}  // namespace studio
