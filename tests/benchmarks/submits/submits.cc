// How many submits a second the controller accepts, each answered only after its fsync, over the number of clients; how
// long it takes to serve again after a SIGKILL with all of them stored; and whether every one is still there.
//
//   bazel run //tests/benchmarks/submits -- [SECONDS] [CLIENTS…]
//
// Each client is a thread with a connection of its own that sends one job after another. No worker is connected: the
// jobs stay PENDING, so the last rows also show what a long queue costs. `cpu` is the controller's, a submit.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <stdlib.h>
#include <time.h>

#include <algorithm>
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

absl::StatusOr<double> CpuSecondsOf(int pid) {
  clockid_t clock;
  timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) {
    return absl::InternalError("the controller is gone");
  }
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Client {
  std::vector<double> milliseconds;
  grpc::Status failure;
};

void SubmitUntil(Clock::time_point end, const std::string& address, const v1::SubmitJobRequest& like,
                 const std::string& name, Client& client) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const std::unique_ptr<v1::Controller::Stub> stub =
      v1::Controller::NewStub(grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
  v1::SubmitJobRequest request = like;
  while (client.failure.ok() && Clock::now() < end) {
    request.set_request_id(absl::StrCat(name, "-", client.milliseconds.size()));
    v1::SubmitJobResponse response;
    grpc::ClientContext context;
    const Clock::time_point start = Clock::now();
    client.failure = stub->SubmitJob(&context, request, &response);
    client.milliseconds.push_back(SecondsSince(start) * 1e3);
  }
}

// Prints a row of the table; returns how many submits were acknowledged.
absl::StatusOr<int64_t> Measure(Cluster& cluster, const v1::SubmitJobRequest& like, int row, int clients,
                                double seconds) {
  std::vector<Client> results(clients);
  std::vector<std::thread> threads;
  ASSIGN_OR_RETURN(const double cpu_before, CpuSecondsOf(cluster.controller_pid()));
  const Clock::time_point start = Clock::now();
  const Clock::time_point end =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (int i = 0; i < clients; ++i) {
    const std::string name = absl::StrCat("submits-", row, "-", i);
    threads.emplace_back([&, i, name] { SubmitUntil(end, cluster.address(), like, name, results[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  const double took = SecondsSince(start);
  ASSIGN_OR_RETURN(const double cpu_after, CpuSecondsOf(cluster.controller_pid()));
  std::vector<double> all;
  for (const Client& client : results) {
    RETURN_IF_ERROR(FromGrpc(client.failure));
    all.insert(all.end(), client.milliseconds.begin(), client.milliseconds.end());
  }
  std::sort(all.begin(), all.end());
  std::printf("%7d %10.0f %10.2f %10.2f %10.0f\n", clients, all.size() / took, all[all.size() / 2],
              all[all.size() * 99 / 100], (cpu_after - cpu_before) / all.size() * 1e6);
  std::fflush(stdout);
  return all.size();
}

absl::StatusOr<int64_t> CountJobs(Cluster& cluster) {
  int64_t jobs = 0;
  v1::ListJobsRequest request;
  request.set_limit(1000);
  for (;;) {
    v1::ListJobsResponse response;
    grpc::ClientContext context;
    RETURN_IF_ERROR(FromGrpc(cluster.api().ListJobs(&context, request, &response)));
    jobs += response.records_size();
    if (!response.more()) return jobs;
    request.set_before_id(response.records().rbegin()->id());
  }
}

absl::Status Run(const std::string& folder, double seconds, const std::vector<int>& rows) {
  Cluster cluster(folder, {});
  RETURN_IF_ERROR(cluster.StartController());
  ASSIGN_OR_RETURN(const std::string first, cluster.Submit({{"noop.steps", "1"}}));
  ASSIGN_OR_RETURN(const v1::JobRecord record, cluster.AwaitState(first, v1::PENDING));
  v1::SubmitJobRequest like;
  *like.mutable_job() = record.job();
  *like.mutable_inputs() = record.inputs();
  std::printf("%7s %10s %10s %10s %10s\n", "clients", "submits/s", "median ms", "99% ms", "cpu us");
  int64_t acknowledged = 1;
  for (size_t row = 0; row < rows.size(); ++row) {
    ASSIGN_OR_RETURN(const int64_t more, Measure(cluster, like, static_cast<int>(row), rows[row], seconds));
    acknowledged += more;
  }
  cluster.KillController();
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(cluster.StartController());
  const double serving = SecondsSince(start);
  ASSIGN_OR_RETURN(const int64_t found, CountJobs(cluster));
  std::printf("killed and started again: serves %lld jobs of %lld acknowledged after %.2f s\n",
              static_cast<long long>(found), static_cast<long long>(acknowledged), serving);
  return found == acknowledged ? absl::OkStatus() : absl::DataLossError("acknowledged jobs are not those found");
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 3;
  std::vector<int> rows;
  for (int i = 2; i < argc; ++i) rows.push_back(std::max(1, std::atoi(argv[i])));
  if (rows.empty()) rows = {1, 2, 4, 8, 16, 32, 64};
  std::string folder = "/tmp/studio-submits-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return 1;
  const absl::Status status = studio::Run(folder, seconds, rows);
  std::filesystem::remove_all(folder);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
