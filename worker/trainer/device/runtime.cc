#include "worker/trainer/device/runtime.h"

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <mutex>

#include "worker/trainer/libtorch/accelerator.h"
#include "worker/trainer/probe/host.h"

namespace studio {
namespace {

DeviceMemory ReadMetalMemory() {
  const auto& hooks = at::detail::getMPSHooks();
  const auto total = static_cast<int64_t>(hooks.getRecommendedMaxMemory());
  return {std::max<int64_t>(0, total - static_cast<int64_t>(hooks.getDriverAllocatedMemory())), total};
}

DeviceMemory ReadHost() {
  const HostMemory memory = ReadHostMemory();
  return {std::max<int64_t>(0, memory.allocatable_bytes - memory.used_bytes), memory.total_bytes};
}

at::Generator GeneratorOf(at::Device device) {
  at::globalContext().lazyInitDevice(device.type());
  return at::globalContext().defaultGenerator(device);
}

}  // namespace

void Synchronise(at::Device device) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl guard(device.type());
  guard.synchronizeDevice(device.has_index() ? device.index() : guard.getDevice().index());
}

DeviceMemory ReadDeviceMemory(at::Device device) {
  if (device.is_cpu()) return ReadHost();
  if (device.is_mps()) return ReadMetalMemory();
  const libtorch::MemoryInfo memory = libtorch::ReadMemory(device);
  return {memory.free_bytes, memory.total_bytes};
}

int64_t PeakMemoryBytes(at::Device device) {
  // MPS's allocator keeps no such statistics; its memory is the process's.
  if (device.is_cpu() || device.is_mps()) return PeakResidentBytes();
  return libtorch::PeakAllocatedBytes(device);
}

void EmptyCache(at::Device device) {
  if (device.is_cpu()) return;
  if (device.is_mps()) return at::detail::getMPSHooks().emptyCache();
  libtorch::EmptyAllocatorCache(device);
}

void SeedRandom(at::Device device, uint64_t seed) {
  at::Generator generator = GeneratorOf(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(seed);
}

at::Tensor RandomState(at::Device device) {
  at::Generator generator = GeneratorOf(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void SetRandomState(at::Device device, const at::Tensor& state) {
  at::Generator generator = GeneratorOf(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

}  // namespace studio
