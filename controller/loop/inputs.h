// What a submit says about the files of its job, checked before anything is stored. Pure functions.
//
//   RETURN_IF_ERROR(CheckInputs(job, inputs));
//
// A worker never reads a client's path: each field that names a file must be a URI that a worker can open, or come with
// an input that says by content what it stands for.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "proto/studio/v1/job.pb.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::controller {

absl::Status CheckInputs(const v1::Job& job, const std::vector<v1::Input>& inputs);

}  // namespace studio::controller
