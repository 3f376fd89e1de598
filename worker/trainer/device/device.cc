#include "worker/trainer/device/device.h"

#include <ATen/Context.h>

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/platform/detect.h"

namespace studio {
v1::Backend BestBackend() { return DetectBackend(DeviceCount(v1::CUDA), at::hasMPS()); }

int DeviceCount(v1::Backend backend) {
  if (backend == v1::CUDA) return at::hasCUDA() ? static_cast<int>(at::getNumGPUs()) : 0;
  if (backend == v1::MPS) return at::hasMPS() ? 1 : 0;
  return 1;
}

std::vector<at::Device> AllDevices() {
  std::vector<at::Device> devices = {at::kCPU};
  for (const auto& [backend, type] : {std::pair{v1::CUDA, at::kCUDA}, std::pair{v1::MPS, at::kMPS}}) {
    for (int i = 0; i < DeviceCount(backend); ++i) devices.emplace_back(type, static_cast<at::DeviceIndex>(i));
  }
  return devices;
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

}  // namespace studio
