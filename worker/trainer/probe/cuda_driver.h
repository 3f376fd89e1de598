// Names and versions of NVIDIA's devices, asked of the driver's own library, which is there wherever a card works:
// LibTorch's portable interface has memory and counts but no names. Needs no CUDA headers and never nvidia-smi.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace studio {

struct CudaDeviceInfo {
  std::string name;
  // "9.0".
  std::string compute_capability;
  // Newest CUDA version that the driver runs ("13.0").
  std::string driver;
  // Memory is the CPU's (Jetson).
  bool integrated = false;
  // The CPU's page tables serve the device: each sees the other's memory coherently (GH200, GB200).
  bool coherent = false;
};

// Empty where there is no driver or no such device.
std::optional<CudaDeviceInfo> ReadCudaDevice(int index);

// "0000:53:00.0", which NVML knows the device by whatever CUDA_VISIBLE_DEVICES says; empty where there is no such
// device.
std::string CudaPciBusId(int index);

struct CudaMemory {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
};
// Of the whole device, whoever holds it; in the context that CUDA's runtime has there too, made for the call where
// there is none. Empty where there is no driver or no such device.
std::optional<CudaMemory> ReadCudaMemory(int index);

// "13.0"; empty where there is no driver. Makes no context.
std::string CudaOfDriver();

}  // namespace studio
