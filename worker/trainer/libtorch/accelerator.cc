#include "worker/trainer/libtorch/accelerator.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "worker/trainer/libtorch/version.h"

#if !STUDIO_LIBTORCH_SINCE(2, 11)
#include <dlfcn.h>

#include <optional>

#include "worker/trainer/probe/cuda_driver.h"
// They are there where set-up fetched LibTorch's CUDA libraries; without those nothing here is called.
#if __has_include(<c10/cuda/impl/cuda_cmake_macros.h>) && __has_include(<crt/host_defines.h>)
#include <c10/cuda/CUDACachingAllocator.h>
#define STUDIO_LIBTORCH_HAS_CUDA 1
#endif
#endif

namespace studio::libtorch {

#if STUDIO_LIBTORCH_SINCE(2, 11)

namespace {

c10::DeviceAllocator& Allocator(at::Device device) {
  at::globalContext().lazyInitDevice(device.type());
  return *c10::getDeviceAllocator(device.type());
}

}  // namespace

MemoryInfo ReadMemory(at::Device device) {
  const auto [free, total] = Allocator(device).getMemoryInfo(device.index());
  return {static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

int64_t PeakAllocatedBytes(at::Device device) {
  const auto stats = Allocator(device).getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

void EmptyAllocatorCache(at::Device device) { Allocator(device).emptyCache(); }

void* CurrentNativeStream(at::Device device) {
  const auto* const guard = c10::impl::getDeviceGuardImpl(device.type());
  return guard->getStreamNativeHandle(guard->getStream(device));
}

#else

namespace {

#ifdef STUDIO_LIBTORCH_HAS_CUDA
// By its virtual functions alone, so that nothing of CUDA is linked.
c10::cuda::CUDACachingAllocator::CUDAAllocator& Allocator(at::Device device) {
  at::globalContext().lazyInitDevice(device.type());
  return *static_cast<c10::cuda::CUDACachingAllocator::CUDAAllocator*>(
      at::detail::getCUDAHooks().getCUDADeviceAllocator());
}
#endif

}  // namespace

MemoryInfo ReadMemory(at::Device device) {
  const std::optional<CudaMemory> memory = ReadCudaMemory(device.index());
  TORCH_CHECK(memory.has_value(), "the driver does not say how much memory ", device, " has");
  return {memory->free_bytes, memory->total_bytes};
}

#ifdef STUDIO_LIBTORCH_HAS_CUDA
int64_t PeakAllocatedBytes(at::Device device) {
  const auto stats = Allocator(device).getDeviceStats(device.index());
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

void EmptyAllocatorCache(at::Device device) { Allocator(device).emptyCache(); }
#else
int64_t PeakAllocatedBytes(at::Device device) {
  TORCH_CHECK(false, "built without LibTorch's CUDA libraries: no ", device);
}

void EmptyAllocatorCache(at::Device device) {
  TORCH_CHECK(false, "built without LibTorch's CUDA libraries: no ", device);
}
#endif

void* CurrentNativeStream(at::Device device) {
  // c10::cuda::CUDAStream, which is a c10::Stream and nothing more, has a member for it in libc10_cuda.
  using NativeStream = void* (*)(const c10::Stream*);
  static const auto native = reinterpret_cast<NativeStream>(dlsym(RTLD_DEFAULT, "_ZNK3c104cuda10CUDAStream6streamEv"));
  TORCH_CHECK(native != nullptr, "libc10_cuda is not loaded or has no CUDAStream::stream()");
  const c10::Stream stream = c10::impl::getDeviceGuardImpl(device.type())->getStream(device);
  return native(&stream);
}

#endif

}  // namespace studio::libtorch
