// What the control path costs: from SubmitJob to SUCCEEDED for a job that trains nothing, one after the other.
//
//   bazel run //tests/benchmarks/job_path -- [RUNS]
//
// Prints the median and the 90th percentile in milliseconds.
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

absl::Status Run(const std::string& folder, int runs) {
  Cluster cluster(folder, {});
  RETURN_IF_ERROR(cluster.StartController());
  RETURN_IF_ERROR(cluster.StartWorker());
  ASSIGN_OR_RETURN(const std::string first, cluster.Submit({{"noop.steps", "1"}}));
  ASSIGN_OR_RETURN(const v1::JobRecord like, cluster.AwaitState(first, v1::SUCCEEDED));
  std::vector<double> times;
  for (int run = 0; run < runs; ++run) {
    ASSIGN_OR_RETURN(const double time, MillisecondsOf(cluster, like, run));
    times.push_back(time);
  }
  std::sort(times.begin(), times.end());
  std::printf("submit to SUCCEEDED, %d jobs that train nothing: median %.1f ms, 90%% within %.1f ms, fastest %.1f ms\n",
              runs, times[times.size() / 2], times[times.size() * 9 / 10], times.front());
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
