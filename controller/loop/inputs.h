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

struct NamedFile {
  std::string field;  // dotted
  std::string value;
};

// The job's fields that name files or folders and are set.
std::vector<NamedFile> FilesOf(const v1::Job& job);

absl::Status CheckInputs(const v1::Job& job, const std::vector<v1::Input>& inputs);

// Hashes, sizes and relative paths are well-formed. `what` names the artifact in the message.
absl::Status CheckArtifact(const v1::Artifact& artifact, const std::string& what);
absl::Status CheckFileRef(const v1::FileRef& file, const std::string& what);

}  // namespace studio::controller
