// A job as this machine runs it: the files and folders that it names, by their local paths.
//
//   ASSIGN_OR_RETURN(LocalJob local, PlanLocalJob(assign.job(), assign.inputs(), state_dir + "/inputs", roots));
//   for (const LocalJob::Fetch& fetch : local.fetches) …   // fetch.artifact into fetch.folder
//   task.job() = local.job;                                // once they are there
//
// Errors: InvalidArgument (bad input) names the field, what it says and the remedy.
// Pure but for looking at files under the shared roots. Any thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::worker {

struct LocalJob {
  struct Fetch {
    v1::Artifact artifact;
    // Named by the contents: equal inputs of many jobs are one folder.
    std::string folder;
  };
  v1::Job job;
  std::vector<Fetch> fetches;
};

// Defaults are filled. A field with an Input is taken from the content store, or from a shared root where the input's
// URI is a file:. One without must name something under a shared root itself: this worker reads nothing else.
absl::StatusOr<LocalJob> PlanLocalJob(const v1::Job& job, const std::vector<v1::Input>& inputs,
                                      const std::string& inputs_dir, const std::vector<std::string>& shared_roots);

}  // namespace studio::worker
