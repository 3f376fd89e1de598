// How long a controller that was killed takes to serve again, with many jobs stored and many workers at work, and
// whether their training noticed.
//
//   bazel run //tests/benchmarks/restart -- [JOBS] [WORKERS]
//
// Every worker is a real studio-worker with a trainer that sleeps through its steps; the jobs wait for a Mac.
#include <grpcpp/client_context.h>
#include <poll.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

absl::StatusOr<int> Connected(Cluster& cluster) {
  grpc::ClientContext context;
  v1::ListWorkersResponse response;
  RETURN_IF_ERROR(FromGrpc(cluster.api().ListWorkers(&context, {}, &response)));
  int connected = 0;
  for (const v1::WorkerRecord& worker : response.workers()) connected += worker.connected() ? 1 : 0;
  return connected;
}

absl::StatusOr<std::vector<v1::JobRecord>> Running(Cluster& cluster) {
  grpc::ClientContext context;
  v1::ListJobsRequest request;
  request.add_states(v1::RUNNING);
  request.set_limit(1000);
  v1::ListJobsResponse response;
  RETURN_IF_ERROR(FromGrpc(cluster.api().ListJobs(&context, request, &response)));
  return std::vector<v1::JobRecord>(response.records().begin(), response.records().end());
}

// Asks every 20 ms until the answer is at least `wanted`; DeadlineExceeded after five minutes.
absl::Status Await(const std::string& what, int wanted, const std::function<absl::StatusOr<int>()>& ask) {
  const Clock::time_point start = Clock::now();
  for (;;) {
    ASSIGN_OR_RETURN(const int now, ask());
    if (now >= wanted) return absl::OkStatus();
    if (SecondsSince(start) > 300) return absl::DeadlineExceededError(absl::StrCat(now, " of ", wanted, " ", what));
    poll(nullptr, 0, 20);
  }
}

absl::Status Submit(Cluster& cluster, const v1::SubmitJobRequest& like, int from, int to) {
  v1::SubmitJobRequest request = like;
  for (int i = from; i < to; ++i) {
    request.set_request_id(absl::StrCat("restart-", i));
    grpc::ClientContext context;
    v1::SubmitJobResponse response;
    RETURN_IF_ERROR(FromGrpc(cluster.api().SubmitJob(&context, request, &response)));
  }
  return absl::OkStatus();
}

absl::Status SubmitMany(Cluster& cluster, const v1::SubmitJobRequest& like, int from, int to) {
  constexpr int kThreads = 8;
  std::vector<absl::Status> results(kThreads);
  std::vector<std::thread> threads;
  const int each = (to - from + kThreads - 1) / kThreads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back(
        [&, i] { results[i] = Submit(cluster, like, from + i * each, std::min(to, from + (i + 1) * each)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

absl::Status Run(const std::string& folder, int jobs, int workers) {
  Cluster cluster(folder, {});
  RETURN_IF_ERROR(cluster.StartController());
  ASSIGN_OR_RETURN(const std::string first, cluster.Submit({{"noop.steps", "1000000"}, {"noop.step_ms", "200"}},
                                                           "resources { backend: MPS }\n"));
  ASSIGN_OR_RETURN(const v1::JobRecord record, cluster.AwaitState(first, v1::PENDING));
  v1::SubmitJobRequest waits;
  *waits.mutable_job() = record.job();
  *waits.mutable_inputs() = record.inputs();
  v1::SubmitJobRequest runs = waits;
  runs.mutable_job()->mutable_resources()->set_backend(v1::BACKEND_AUTO);

  for (int i = 0; i < workers; ++i) RETURN_IF_ERROR(cluster.AddWorker(absl::StrCat("worker-", i), {}));
  RETURN_IF_ERROR(Await("workers", workers, [&] { return Connected(cluster); }));
  RETURN_IF_ERROR(SubmitMany(cluster, runs, 0, workers));
  RETURN_IF_ERROR(SubmitMany(cluster, waits, workers, jobs - 1));
  const auto training = [&]() -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const std::vector<v1::JobRecord> running, Running(cluster));
    int steps = 0;
    for (const v1::JobRecord& job : running) steps += job.progress().step() > 0 ? 1 : 0;
    return steps;
  };
  RETURN_IF_ERROR(Await("jobs at work", workers, training));

  cluster.KillController();
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(cluster.StartController());
  const double serves = SecondsSince(start);
  RETURN_IF_ERROR(Await("workers", workers, [&] { return Connected(cluster); }));
  const double connected = SecondsSince(start);
  ASSIGN_OR_RETURN(const std::vector<v1::JobRecord> running, Running(cluster));
  int untouched = 0;
  for (const v1::JobRecord& job : running) untouched += job.attempts_size() == 1 ? 1 : 0;
  std::printf(
      "%d jobs, %d workers: killed; serves after %.2f s, all workers back after %.2f s, %d of %d attempts "
      "untouched\n",
      jobs, workers, serves, connected, untouched, workers);
  return untouched == workers ? absl::OkStatus() : absl::InternalError("training noticed");
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  const int jobs = argc > 1 ? std::max(1, std::atoi(argv[1])) : 10'000;
  const int workers = argc > 2 ? std::max(1, std::atoi(argv[2])) : 200;
  std::string folder = "/tmp/studio-restart-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  const absl::Status status = studio::Run(folder, jobs, workers);
  std::filesystem::remove_all(folder);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
