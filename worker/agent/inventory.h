// What this machine is and has, learnt from `TRAINER --probe`: a process of its own, so that the agent never loads
// LibTorch or makes a CUDA context.
#pragma once

#include <string>
#include <vector>

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

}  // namespace studio::worker
