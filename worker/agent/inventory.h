// What this machine is and has, learnt from `TRAINER --probe`: a process of its own, so that the agent never loads
// LibTorch or makes a CUDA context.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/process.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::worker {

struct ProbedTrainer {
  std::string path;
  v1::Inventory inventory;
};

// The first of the candidates whose probe works. FailedPrecondition says what was wrong with each.
absl::StatusOr<ProbedTrainer> ProbeTrainer(Launcher& launcher, const std::vector<std::string>& candidates);

// A CPU that serves several ranks: devices cpu:0 … cpu:n-1, which share its memory evenly. Nothing else is changed.
// InvalidArgument where the machine is no CPU machine: there a rank has a device of its own.
absl::Status OfferCpuRanks(v1::Inventory& inventory, int ranks);

}  // namespace studio::worker
