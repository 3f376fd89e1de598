// The device that a rank trains on: choosing it, its memory, and the type it computes in. Through LibTorch's portable
// interfaces alone, so that one source serves CUDA, MPS and CPU.
//
//   ASSIGN_OR_RETURN(const at::Device device, ChooseDevice(job.resources().backend(), /*index=*/0));
//   const at::ScalarType type = ComputeType(job.environment().mixed_precision_dtype(), device);
//
// Device functions throw what LibTorch throws.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"

namespace studio {

// The best backend of this machine: CUDA before MPS before CPU.
v1::Backend BestBackend();
// Accelerators of it (CPU: 1).
int DeviceCount(v1::Backend backend);

// InvalidArgument where the asked backend or device is not here: never a silent fallback to another.
absl::StatusOr<at::Device> ChooseDevice(v1::Backend asked, int index);

// DTYPE_AUTO: bfloat16 on CUDA from compute capability 8.0 and on CPUs that multiply it natively, else float32.
// InvalidArgument for float16 on CPU.
absl::StatusOr<at::ScalarType> ComputeType(v1::Architecture::Dtype asked, at::Device device);

// Most memory that tensors took on the device since the start; on CPU the process's largest resident size.
int64_t PeakMemoryBytes(at::Device device);

struct DeviceMemory {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
};
// Of an accelerator.
DeviceMemory ReadDeviceMemory(at::Device device);

}  // namespace studio
