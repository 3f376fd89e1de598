// The folder of a run's checkpoints: which there are, and which may go.
//
//   <out_dir>/checkpoints/step-12, step-24, …
//
// Not thread-safe beyond the Env's own safety.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/env.h"

namespace studio {

// <folder>/step-<step>.
std::string CheckpointPath(const std::string& folder, int64_t step);

// Steps of the finished ones, rising. A missing folder has none.
absl::StatusOr<std::vector<int64_t>> ListCheckpoints(Env& env, const std::string& folder);

// The folder itself where it is a checkpoint, else the newest one in it or in its checkpoints/. NotFound.
absl::StatusOr<std::string> FindCheckpoint(Env& env, const std::string& folder);

// Deletes writes that were cut off.
absl::Status RemoveUnfinished(Env& env, const std::string& folder);

// Of those up to `recorded_step`, keeps the newest `limit`. Newer ones are not recorded yet and stay.
absl::Status KeepNewest(Env& env, const std::string& folder, int64_t recorded_step, int limit);

}  // namespace studio
