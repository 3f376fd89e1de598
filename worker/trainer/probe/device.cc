#include "worker/trainer/probe/device.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/platform/detect.h"
#include "worker/trainer/probe/cuda_driver.h"
#include "worker/trainer/probe/host.h"

namespace studio {
namespace {

// As the matrix of common/platform has it: elsewhere bfloat16 works, but slower than float32.
bool IsFastInBf16(at::Device device) {
  if (device.is_cpu()) return CpuHasNativeBf16();
  if (!device.is_cuda()) return false;
  const std::optional<CudaDeviceInfo> info = ReadCudaDevice(device.has_index() ? device.index() : 0);
  return !info || IsAmpereOrLater(info->compute_capability);
}

}  // namespace

v1::Backend BestBackend() { return DetectBackend(DeviceCount(v1::CUDA), at::hasMPS()); }

int DeviceCount(v1::Backend backend) {
  if (backend == v1::CUDA) return at::hasCUDA() ? static_cast<int>(at::getNumGPUs()) : 0;
  if (backend == v1::MPS) return at::hasMPS() ? 1 : 0;
  return 1;
}

absl::StatusOr<at::Device> ChooseDevice(v1::Backend asked, int index) {
  const v1::Backend backend = asked == v1::BACKEND_AUTO ? BestBackend() : asked;
  const int count = DeviceCount(backend);
  if (count == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "resources.backend: ", v1::Backend_Name(backend), " was asked for, this trainer on this machine has ",
        v1::Backend_Name(BestBackend()), "; leave it out to take what there is"));
  }
  if (backend == v1::CPU) return at::Device(at::kCPU);
  if (index < 0 || index >= count) {
    return absl::InvalidArgumentError(absl::StrCat("device ", index, " of ", count, " does not exist"));
  }
  return at::Device(backend == v1::CUDA ? at::kCUDA : at::kMPS, static_cast<at::DeviceIndex>(index));
}

absl::StatusOr<at::ScalarType> ComputeType(v1::Architecture::Dtype asked, at::Device device) {
  switch (asked) {
    case v1::Architecture::FLOAT32:
      return at::kFloat;
    case v1::Architecture::BFLOAT16:
      return at::kBFloat16;
    case v1::Architecture::FLOAT16:
      if (device.is_cpu()) {
        return absl::InvalidArgumentError(
            "environment.mixed_precision_dtype: FLOAT16 needs CUDA or MPS; use BFLOAT16 or FLOAT32 on CPU");
      }
      return at::kHalf;
    default:
      return IsFastInBf16(device) ? at::kBFloat16 : at::kFloat;
  }
}

int64_t PeakMemoryBytes(at::Device device) {
  if (device.is_cpu()) return PeakResidentBytes();
  // MPS's allocator keeps no such statistics.
  if (device.is_mps()) return PeakResidentBytes();
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

DeviceMemory ReadDeviceMemory(at::Device device) {
  at::globalContext().lazyInitDevice(device.type());
  const auto [free, total] = c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index());
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

}  // namespace studio
