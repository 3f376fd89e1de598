// The local files that a job names, described by content.
//
//   ASSIGN_OR_RETURN(std::vector<LocalInput> inputs, FindInputs(job, "/home/ada/jobs"));
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/studio/v1/job.pb.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::ctl {

struct LocalInput {
  std::string path;  // on this machine
  v1::Input input;   // what the controller hears of it
};

// Paths that are not absolute are relative to `folder`. URIs (file:, hf:, job:) are left to the other end.
// InvalidArgument names the field. `hashing` hears each path before it is read.
absl::StatusOr<std::vector<LocalInput>> FindInputs(const v1::Job& job, const std::string& folder,
                                                   const std::function<void(const std::string&)>& hashing);

// What a trainer reads of a model folder: config.json, the tokenizer, the weights as safetensors. The rest (other
// weight formats, images, .git) stays at home.
bool IsModelFile(absl::string_view path);

}  // namespace studio::ctl
