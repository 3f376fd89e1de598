// What a checkpoint belongs to, so that it is never taken for another run's.
//
//   state.job = SettingsThatDecide(job);
//   RETURN_IF_ERROR(CheckSameRun(state_of_the_checkpoint, state_of_this_run));
//
// Pure functions, but for ModelKey, which reads a folder.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "proto/studio/v1/job.pb.h"
#include "worker/trainer/checkpoint/training_state.pb.h"

namespace studio {

// The job without what does not change the result: names, paths, cadences, resources, and how a batch is cut.
v1::Job SettingsThatDecide(v1::Job job);

// SHA-256 over config.json and the names and sizes of the weight files. Not over the weights: hashing gigabytes at
// each start would cost more than it finds, and inputs that travelled are content-addressed already.
absl::StatusOr<std::string> ModelKey(Env& env, const std::string& model_dir);

// FailedPrecondition naming every difference.
absl::Status CheckSameRun(const v1::TrainingState& checkpoint, const v1::TrainingState& run);

}  // namespace studio
