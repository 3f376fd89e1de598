// The real binaries as a person runs them: a controller, one worker (with the no-op trainer, unless told otherwise),
// and studioctl.
//
//   Cluster cluster(folder, binaries);
//   RETURN_IF_ERROR(cluster.StartController());
//   RETURN_IF_ERROR(cluster.StartWorker());
//   ASSIGN_OR_RETURN(std::string id, cluster.Submit({{"noop.steps", "5"}}));
//   ASSIGN_OR_RETURN(v1::JobRecord end, cluster.AwaitState(id, v1::SUCCEEDED));
//
// Waiting is by WatchJob, which survives the controller's restart: nothing here polls. Everything dies with the
// Cluster. Threading: belongs to one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/posix_env.h"
#include "common/env/posix_launcher.h"
#include "proto/studio/v1/controller.grpc.pb.h"

namespace studio {

class Cluster {
 public:
  struct Binaries {
    std::string controller = "controller/studio-controller";
    std::string worker = "worker/agent/studio-worker";
    std::string trainer = "tests/noop/noop_trainer";
    // Empty: the worker finds it beside the trainer, if it needs it.
    std::string dataprep;
    std::string studioctl = "studioctl/studioctl";
  };
  struct Ctl {
    int exit_code;
    // What it printed on both streams.
    std::string output;
  };
  using Labels = std::vector<std::pair<std::string, std::string>>;

  // `folder` is there and empty. `host`: an address of this machine for the controller to listen on; beyond loopback it
  // wants the flag --insecure.
  Cluster(std::string folder, Binaries binaries, const std::string& host = "127.0.0.1");

  // The second time: on the same ports, with the same state. `environment`: NAME=VALUE in addition to ours; `flags`:
  // more of the controller's own.
  absl::Status StartController(const std::vector<std::string>& environment = {},
                               const std::vector<std::string>& flags = {});
  // `prefix`: a command that starts the worker ("setpriv …"). `flags`: more of the worker's own.
  absl::Status StartWorker(const std::vector<std::string>& prefix = {}, const std::vector<std::string>& flags = {},
                           const std::vector<std::string>& environment = {});
  // A second worker beside it, of other programs (another machine's), with its state in `folder`/`name`.
  absl::Status AddWorker(const std::string& name, const Binaries& binaries, const std::vector<std::string>& flags = {});
  // SIGKILL, and gone when this returns. Of workers the one that StartWorker started.
  void KillController();
  void KillWorker();
  // What `studio-controller verify` prints of the controller's folder, once nothing is wrong. The controller is gone.
  absl::StatusOr<std::string> VerifyController();
  // How it ended by itself. DeadlineExceeded after Patience of a minute.
  absl::StatusOr<ProcessEnd> AwaitControllerEnd();
  absl::StatusOr<ProcessEnd> AwaitWorkerEnd();

  // Runs studioctl to its end.
  absl::StatusOr<Ctl> RunCtl(const std::vector<std::string>& arguments);
  // Of a job that `submit -o name` told: the last line, behind what studioctl had to say on its way.
  static std::string IdIn(const Ctl& ctl);

  // Writes a job with these labels and returns the path of its file.
  absl::StatusOr<std::string> WriteJob(const Labels& labels, const std::string& more = "");
  // `studioctl submit` of a job's file with these fields set ("training.max_steps=3"); returns the job's id.
  absl::StatusOr<std::string> SubmitFile(const std::string& path, const std::vector<std::string>& sets = {});
  // WriteJob and SubmitFile.
  absl::StatusOr<std::string> Submit(const Labels& labels, const std::string& more = "");

  // The first record of the job that is wanted, as it comes. DeadlineExceeded after Patience of two minutes.
  absl::StatusOr<v1::JobRecord> Await(const std::string& id, const std::function<bool(const v1::JobRecord&)>& wanted);
  // FailedPrecondition where the job ends in another state.
  absl::StatusOr<v1::JobRecord> AwaitState(const std::string& id, v1::JobState state);

  v1::Controller::Stub& api() { return *api_; }
  // Of the API, once the controller has started.
  const std::string& address() const { return address_; }
  const std::string& transfer_address() const { return transfer_address_; }
  int controller_pid() const { return controller_->pid(); }
  const std::string& folder() const { return folder_; }
  std::string worker_state_dir() const { return folder_ + "/worker"; }

 private:
  absl::StatusOr<std::unique_ptr<Process>> LaunchWorker(const Binaries& binaries, const std::string& state_dir,
                                                        const std::vector<std::string>& prefix,
                                                        const std::vector<std::string>& flags,
                                                        const std::vector<std::string>& environment);

  const std::string folder_;
  const Binaries binaries_;
  PosixEnv env_;
  PosixLauncher launcher_;
  std::string address_, transfer_address_;
  std::unique_ptr<Process> controller_;
  std::unique_ptr<Process> worker_;
  std::vector<std::unique_ptr<Process>> more_workers_;
  std::unique_ptr<v1::Controller::Stub> api_;
};

}  // namespace studio
