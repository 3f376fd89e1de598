// SyncAcrossProcesses: every rank's values, one after the other along dimension 0, on every rank.
//
//   ASSIGN_OR_RETURN(const at::Tensor all, SyncAcrossProcesses(mine, ranks));            // [sum of the n_r, …]
//   ASSIGN_OR_RETURN(std::vector<double> all, SyncAcrossProcesses(std::span(mine), ranks));
//
// First dimensions may differ from rank to rank, and be 0. Every rank calls it at the same place.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/trainer/parallel/ranks.h"

namespace studio {

// [n_r, …] of any type → [sum of the n_r, …] on the tensor's own device (host, CUDA or MPS), in the order of ranks. One
// rank: the tensor itself. InvalidArgument, on every rank alike, where types or the other dimensions differ, or where a
// tensor has no dimension 0 or more than 8 of them.
absl::StatusOr<at::Tensor> SyncAcrossProcesses(const at::Tensor& tensor, Ranks& ranks);

// Arrays in the host's memory.
absl::StatusOr<std::vector<double>> SyncAcrossProcesses(std::span<const double> array, Ranks& ranks);
absl::StatusOr<std::vector<int64_t>> SyncAcrossProcesses(std::span<const int64_t> array, Ranks& ranks);

}  // namespace studio
