// The files given to `studioctl submit`, read and checked before anything is sent.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"
#include "studioctl/console.h"

namespace studio::ctl {

struct JobFile {
  v1::Job job;
  std::string folder;  // what the job's relative paths are relative to
};

// "-" reads the input stream: many jobs, apart by lines of "---", with paths relative to the working folder. `sets` are
// applied to every job. InvalidArgument with file:line:column or the field for what is wrong with the jobs.
absl::StatusOr<std::vector<JobFile>> ReadJobFiles(const std::vector<std::string>& paths,
                                                  const std::vector<std::string>& sets, Console& console);

}  // namespace studio::ctl
