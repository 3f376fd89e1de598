// What the control path costs: from SubmitJob to SUCCEEDED for a job that trains nothing, one after the other.
//
//   bazel run //tests/benchmarks/job_path -- [RUNS]
//
// By the API alone, and by studioctl with its start-up; the median and the 90th percentile in milliseconds.
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

absl::StatusOr<double> MillisecondsOf(Cluster& cluster, const v1::JobRecord& like, int run) {
  const auto start = std::chrono::steady_clock::now();
  v1::SubmitJobRequest request;
  request.set_request_id(absl::StrCat("job-path-", run));
  *request.mutable_job() = like.job();
  *request.mutable_inputs() = like.inputs();
  v1::SubmitJobResponse response;
  grpc::ClientContext context;
  RETURN_IF_ERROR(FromGrpc(cluster.api().SubmitJob(&context, request, &response)));
  RETURN_IF_ERROR(cluster.AwaitState(response.record().id(), v1::SUCCEEDED).status());
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

// As a person does it: the program starts, hashes the inputs, asks what is missing, submits and follows.
absl::StatusOr<double> MillisecondsByHand(Cluster& cluster, const std::string& job) {
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(const Cluster::Ctl ctl, cluster.RunCtl({"submit", job, "--follow"}));
  if (ctl.exit_code != 0) return absl::InternalError(ctl.output);
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

void Report(const char* what, std::vector<double> times) {
  std::sort(times.begin(), times.end());
  std::printf("%s, %zu jobs that train nothing: median %.1f ms, 90%% within %.1f ms, fastest %.1f ms\n", what,
              times.size(), times[times.size() / 2], times[times.size() * 9 / 10], times.front());
}

absl::Status Run(const std::string& folder, int runs) {
  Cluster cluster(folder, {});
  RETURN_IF_ERROR(cluster.StartController());
  RETURN_IF_ERROR(cluster.StartWorker());
  ASSIGN_OR_RETURN(const std::string first, cluster.Submit({{"noop.steps", "1"}}));
  ASSIGN_OR_RETURN(const v1::JobRecord like, cluster.AwaitState(first, v1::SUCCEEDED));
  ASSIGN_OR_RETURN(const std::string job, cluster.WriteJob({{"noop.steps", "1"}}));
  std::vector<double> times, by_hand;
  for (int run = 0; run < runs; ++run) {
    ASSIGN_OR_RETURN(const double time, MillisecondsOf(cluster, like, run));
    times.push_back(time);
    ASSIGN_OR_RETURN(const double with_studioctl, MillisecondsByHand(cluster, job));
    by_hand.push_back(with_studioctl);
  }
  Report("SubmitJob to SUCCEEDED", times);
  Report("studioctl submit --follow", by_hand);
  return absl::OkStatus();
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::max(1, std::atoi(argv[1])) : 21;
  std::string folder = "/tmp/studio-job-path-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  const absl::Status status = studio::Run(folder, runs);
  std::filesystem::remove_all(folder);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
