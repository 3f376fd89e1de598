// Machine code loaded onto a device, and its launches, through the driver's own library: what studio-trainer links
// needs no CUDA.
//
//   ASSIGN_OR_RETURN(CudaDeviceKind kind, DescribeCudaDevice(device));              // "sm_90"
//   ASSIGN_OR_RETURN(std::unique_ptr<CudaModule> module, CudaModule::Load(device, cubin));
//   (*module)({"silu_forward_bf16_v8", grid, 256}, gate_up_pointer, out_pointer, threads, …);
//
// Launches go to LibTorch's current stream of the device and return at once. Any thread may launch.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "worker/trainer/kernels/launch_plan.h"

namespace studio::kernels {

struct CudaDriver;

struct CudaDeviceKind {
  std::string architecture;  // "sm_90"
  DeviceLimits limits;
};
// NotFound where there is no driver or no such device.
absl::StatusOr<CudaDeviceKind> DescribeCudaDevice(c10::Device device);

class CudaModule {
 public:
  // LibTorch has used the device before. Internal with the driver's words where it does not take the code.
  static absl::StatusOr<std::unique_ptr<CudaModule>> Load(c10::Device device, const std::string& cubin);
  ~CudaModule();
  CudaModule(const CudaModule&) = delete;
  CudaModule& operator=(const CudaModule&) = delete;

  // The kernel's parameters in its order and of exactly its types. A kernel that is not in the module aborts; a launch
  // that the driver refuses throws c10::Error.
  template <typename... Arguments>
  void operator()(const Launch& launch, Arguments... arguments) const {
    void* pointers[] = {&arguments...};
    Run(launch, pointers);
  }

 private:
  CudaModule(const CudaDriver& driver, c10::Device device) : driver_(driver), device_(device) {}
  void Run(const Launch& launch, void** arguments) const;
  void* Function(const Launch& launch) const;

  const CudaDriver& driver_;
  const c10::Device device_;
  // The device's primary context, LibTorch's too.
  void* context_ = nullptr;
  void* module_ = nullptr;
  mutable absl::Mutex mutex_;
  mutable absl::flat_hash_map<std::string, void*> functions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace studio::kernels
