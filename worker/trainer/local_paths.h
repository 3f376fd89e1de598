// Makes the files and folders that a job names ready to be opened on this machine.
//
//   RETURN_IF_ERROR(ResolveLocalPaths(job, "/home/me/jobs"));   // relative to the folder of the job's file
//
// Which fields name files is read from their rules in job.proto (`artifact: true`). Pure but for asking what exists.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "proto/studio/v1/job.pb.h"

namespace studio {

// NotFound names the field and the path. InvalidArgument for a URI that only a controller can fetch.
absl::Status ResolveLocalPaths(v1::Job& job, const std::string& folder);

}  // namespace studio
