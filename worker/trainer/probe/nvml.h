// NVIDIA's management library, found at run time; it comes with the driver, and nothing that trains needs it.
#pragma once

#include <string>

namespace studio {

inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";

// Of the driver as NVML says it ("580.159.04"); empty without NVML.
std::string NvidiaDriverVersion();

// Share of its last sample period (up to a second) in which the CUDA driver's device `index` ran a kernel, 0 to 1; 0
// where NVML does not say: it is missing, or the device is a MIG slice.
double NvmlUtilization(int index);

}  // namespace studio
