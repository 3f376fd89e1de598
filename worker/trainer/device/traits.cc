#include "worker/trainer/device/traits.h"

#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/platform/detect.h"
#include "worker/trainer/probe/cuda_driver.h"
#include "worker/trainer/probe/host.h"

namespace studio {

DeviceTraits TraitsOf(at::Device device) {
  if (device.is_cpu()) return {.backend = v1::CPU, .fast_bf16 = CpuHasNativeBf16()};
  if (device.is_mps()) return {.backend = v1::MPS};
  DeviceTraits traits = {.backend = v1::CUDA};
  const std::optional<CudaDeviceInfo> info = ReadCudaDevice(device.has_index() ? device.index() : 0);
  if (info) traits.compute_capability = info->compute_capability;
  traits.fast_bf16 = IsAmpereOrLater(traits.compute_capability);
  return traits;
}

std::string WhyNoFlashAttention(const DeviceTraits& traits, at::ScalarType type, int64_t head_dim) {
  if (traits.backend != v1::CUDA) return absl::StrCat("it needs CUDA, this is ", v1::Backend_Name(traits.backend));
  if (!IsAmpereOrLater(traits.compute_capability)) {
    return absl::StrCat("it needs compute capability 8.0, this card has ",
                        traits.compute_capability.empty() ? "an unknown one" : traits.compute_capability);
  }
  if (type != at::kBFloat16 && type != at::kHalf) {
    return "it computes in BFLOAT16 or FLOAT16 alone (environment.mixed_precision_dtype)";
  }
  if (head_dim % 8 != 0 || head_dim > 256) {
    return absl::StrCat("it takes heads of a multiple of 8 up to 256, this model's have ", head_dim);
  }
  return "";
}

bool AttentionIsLinear(at::Device device) { return !device.is_mps(); }

absl::StatusOr<at::ScalarType> ComputeType(v1::Architecture::Dtype asked, const DeviceTraits& traits) {
  switch (asked) {
    case v1::Architecture::FLOAT32:
      return at::kFloat;
    case v1::Architecture::BFLOAT16:
      return at::kBFloat16;
    case v1::Architecture::FLOAT16:
      if (traits.backend == v1::CPU) {
        return absl::InvalidArgumentError(
            "environment.mixed_precision_dtype: FLOAT16 needs CUDA or MPS; use BFLOAT16 or FLOAT32 on CPU");
      }
      return at::kHalf;
    default:
      return traits.fast_bf16 ? at::kBFloat16 : at::kFloat;
  }
}

}  // namespace studio
