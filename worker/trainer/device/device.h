// The devices of this machine, and choosing the one that a rank trains on.
//
//   ASSIGN_OR_RETURN(const at::Device device, ChooseDevice(job.resources().backend(), /*index=*/0));
//
// Any thread.
#pragma once

#include <c10/core/Device.h>

#include <vector>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"

namespace studio {

// The best backend of this machine: CUDA before MPS before CPU.
v1::Backend BestBackend();
// Accelerators of it (CPU: 1).
int DeviceCount(v1::Backend backend);
// The host, then every accelerator that this trainer sees: for tests that must hold on all.
std::vector<at::Device> AllDevices();

// InvalidArgument where the asked backend or device is not here: never a silent fallback to another.
absl::StatusOr<at::Device> ChooseDevice(v1::Backend asked, int index);

}  // namespace studio
