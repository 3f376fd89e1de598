// Operations by our own CUDA kernels (cuda/*.cu), one pass over memory each, compiled for the device at hand.
//
//   PosixEnv env;
//   CubinCache cache(env, DefaultKernelFolder());
//   Chosen chosen = ChooseOperations(device, cache);
//   if (!chosen.note.empty()) log(chosen.note);      // once: why LibTorch's operations run on a CUDA device
//
// Shapes for which no kernel is made (rows of more than 16384 elements in a norm, 2^31 accesses in one call) go
// LibTorch's way. Sorted tokens and partial sums are memory of LibTorch's for the time of a call.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/trainer/kernels/cubin_cache.h"
#include "worker/trainer/kernels/operations.h"

namespace studio::kernels {

// NotFound without a driver or compiler, FailedPrecondition where the compiler does not know the device's
// architecture, Internal where a kernel does not compile or load. The first time on a machine it takes seconds.
absl::StatusOr<std::unique_ptr<Operations>> MakeCudaOperations(c10::Device device, CubinCache& cache);

struct Chosen {
  std::unique_ptr<Operations> operations;
  // Empty unless a CUDA device goes without our kernels: then why.
  std::string note;
};
// Ours on CUDA where they can be had, else LibTorch's.
Chosen ChooseOperations(c10::Device device, CubinCache& cache);

}  // namespace studio::kernels
