#include "tests/faults/judge.h"

#include <chrono>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"

namespace studio {
namespace {

absl::Status JudgeJob(const v1::JobRecord& job, const v1::JobRecord& other, int64_t steps, Judgement& judgement) {
  if (job.state() != v1::SUCCEEDED) return absl::DataLossError("did not end well: " + job.ShortDebugString());
  int64_t step = 0;
  for (const v1::Attempt& attempt : job.attempts()) {
    ++judgement.attempts;
    judgement.fenced += attempt.state() == v1::ATTEMPT_FENCED ? 1 : 0;
    if (attempt.start_step() < step) return absl::DataLossError("steps went back: " + job.ShortDebugString());
    step = attempt.start_step();
  }
  // One that a full disk refused is a note on the job, and the job goes on without it.
  const bool refused =
      absl::c_any_of(job.notes(), [](const std::string& note) { return absl::StrContains(note, "could not be kept"); });
  if (job.checkpoint().step() != steps && !refused) {
    return absl::DataLossError("last checkpoint: " + job.ShortDebugString());
  }
  if (job.result().files_size() != 1 || job.result().files(0).sha256() != other.result().files(0).sha256()) {
    return absl::DataLossError("another result: " + job.ShortDebugString());
  }
  return absl::OkStatus();
}

// Two trainers of one job at once: only where the earlier attempt had been given up without its worker's word.
absl::Status JudgeOverlaps(const std::map<std::string, const v1::JobRecord*>& jobs, const std::string& overlaps,
                           Judgement& judgement) {
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(overlaps, '\n', absl::SkipEmpty()))) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');  // process 7 of j3, attempt 2
    int attempt = 0;
    const auto job = words.size() == 6 ? jobs.find(words[3].substr(0, words[3].size() - 1)) : jobs.end();
    if (job == jobs.end() || !absl::SimpleAtoi(words[5], &attempt)) return absl::InternalError(line);
    bool fenced = false;
    for (int i = 0; i + 1 < attempt; ++i) fenced |= job->second->attempts(i).state() == v1::ATTEMPT_FENCED;
    if (!fenced) return absl::DataLossError(absl::StrCat(line, ", and no earlier one was fenced"));
    ++judgement.overlaps;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<v1::JobRecord>> ListAllJobs(v1::Controller::Stub& api) {
  std::vector<v1::JobRecord> jobs;
  v1::ListJobsRequest request;
  request.set_limit(1000);
  for (;;) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(2));
    v1::ListJobsResponse response;
    RETURN_IF_ERROR(FromGrpc(api.ListJobs(&context, request, &response)));
    jobs.insert(jobs.end(), response.records().begin(), response.records().end());
    if (!response.more()) return jobs;
    request.set_before_id(jobs.back().id());
  }
}

absl::StatusOr<Judgement> Judge(const std::vector<v1::JobRecord>& jobs,
                                const std::map<std::string, std::string>& acknowledged, int64_t steps,
                                const std::string& overlaps) {
  if (jobs.size() != acknowledged.size()) {
    return absl::DataLossError(absl::StrCat(jobs.size(), " jobs for ", acknowledged.size(), " requests"));
  }
  std::map<std::string, const v1::JobRecord*> by_id;
  for (const v1::JobRecord& job : jobs) by_id[job.id()] = &job;
  for (const auto& [request, id] : acknowledged) {
    if (by_id.count(id) == 0) return absl::DataLossError(absl::StrCat(request, ", ", id, ", is gone"));
  }
  Judgement judgement;
  for (const v1::JobRecord& job : jobs) RETURN_IF_ERROR(JudgeJob(job, jobs.front(), steps, judgement));
  RETURN_IF_ERROR(JudgeOverlaps(by_id, overlaps, judgement));
  return judgement;
}

}  // namespace studio
