// What to do where an NVIDIA driver is there but LibTorch sees no card by it: another trainer, another driver, or the
// LibTorch of third_party/pins.sh that the driver is new enough for. Pure. Any thread.
//
//   DriverAdvice(v1::X86_64, /*driver_cuda=*/"12.8", /*libtorch_cuda=*/"13.0")
//   // "… LIBTORCH=2.7.1"
#pragma once

#include <string>
#include <string_view>

#include "proto/studio/v1/job.pb.h"

namespace studio {

// `driver_cuda`: the newest CUDA that the driver runs; `libtorch_cuda`: the one that this LibTorch was built for, empty
// where it was built for none. A driver serves every CUDA up to its own major version:
// https://docs.nvidia.com/deploy/cuda-compatibility
std::string DriverAdvice(v1::Arch arch, std::string_view driver_cuda, std::string_view libtorch_cuda);

// The LibTorch for drivers of CUDA 12, as `make … LIBTORCH=` takes it.
std::string LibtorchForCuda12(v1::Arch arch);

}  // namespace studio
