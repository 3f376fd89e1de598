// What must hold once all faults are over, on the records of a real controller: nothing lost, nothing run twice,
// nothing counted twice. For jobs of the no-op trainer that end well.
//
//   ASSIGN_OR_RETURN(const std::vector<v1::JobRecord> jobs, ListAllJobs(cluster.api()));
//   ASSIGN_OR_RETURN(const Judgement judged, Judge(jobs, {{"request-1", "j1"}}, /*steps=*/60, trainers.overlaps()));
//
// DataLoss names the job that breaks a promise.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/studio/v1/controller.grpc.pb.h"

namespace studio {

struct Judgement {
  int attempts = 0;
  int fenced = 0;
  // Times that two trainers of one job lived at once, the earlier one's attempt fenced.
  int overlaps = 0;
};

absl::StatusOr<std::vector<v1::JobRecord>> ListAllJobs(v1::Controller::Stub& api);

// `acknowledged`: request → job, as clients were told; each must be there, and nothing else. `steps`: of every job; its
// last checkpoint is of that step. `overlaps`: StartedTrainers'.
absl::StatusOr<Judgement> Judge(const std::vector<v1::JobRecord>& jobs,
                                const std::map<std::string, std::string>& acknowledged, int64_t steps,
                                const std::string& overlaps);

}  // namespace studio
