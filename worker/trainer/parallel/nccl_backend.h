// NCCL, where this trainer was linked with it: nccl_backend.cc in the CUDA flavour, no_nccl_backend.cc in the other.
//
//   RETURN_IF_ERROR(CheckNccl());
//   backend = MakeNccl(store, rank, size, timeout, device);   // throws what LibTorch throws
#pragma once

#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace studio {

// Unimplemented, with the remedy, where it is not here.
absl::Status CheckNccl();

// `device`: this rank's own. Only after CheckNccl said OK.
c10::intrusive_ptr<c10d::Backend> MakeNccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                           absl::Duration timeout, at::Device device);

}  // namespace studio
