// What a rank asks of the device at run time, the same on CUDA, MPS and the host: waiting, memory, cache, random state.
// Through LibTorch's portable interfaces; the few functions that MPS and the host need for themselves are listed in
// docs/platforms.md.
//
//   Synchronise(device);                       // before a clock is read
//   const int64_t peak = PeakMemoryBytes(device);
//   const at::Tensor state = RandomState(device); … SetRandomState(device, state);
//
// Throws what LibTorch throws. Any thread.
#pragma once

#include <ATen/core/TensorBody.h>
#include <c10/core/Device.h>

#include <cstdint>

namespace studio {

// Until everything that was queued on the device is done. The host queues nothing.
void Synchronise(at::Device device);

struct DeviceMemory {
  // What this process may still take; of Metal: of its recommended working set.
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
};
DeviceMemory ReadDeviceMemory(at::Device device);

// Most memory that tensors took on the device since the start; on MPS and the host the process's largest resident size.
int64_t PeakMemoryBytes(at::Device device);

// Gives memory that LibTorch keeps for later tensors back to the system. The host keeps none.
void EmptyCache(at::Device device);

// LibTorch's default generator of the device: training draws nothing from it (docs/data_parallel.md), libraries may.
void SeedRandom(at::Device device, uint64_t seed);
// Opaque bytes, for SetRandomState on a device of the same kind.
at::Tensor RandomState(at::Device device);
void SetRandomState(at::Device device, const at::Tensor& state);

}  // namespace studio
