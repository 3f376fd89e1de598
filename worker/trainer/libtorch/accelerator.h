// A card's allocator and stream: LibTorch's portable interfaces where this version has them, CUDA's own before. For
// devices with a caching allocator of LibTorch's (CUDA); Metal's is reached by its hooks, the host has none.
//
//   const MemoryInfo memory = libtorch::ReadMemory(device);
//
// Throws what LibTorch throws. Any thread. Links no CUDA: the CPU's trainer has this too and never calls it.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace studio::libtorch {

struct MemoryInfo {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
};
MemoryInfo ReadMemory(at::Device device);

// The most that tensors took at once since the start.
int64_t PeakAllocatedBytes(at::Device device);

// Gives what the allocator keeps for later tensors back to the driver.
void EmptyAllocatorCache(at::Device device);

// The device's current stream as its own library knows it (a CUstream).
void* CurrentNativeStream(at::Device device);

}  // namespace studio::libtorch
