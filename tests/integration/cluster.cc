#include "tests/integration/cluster.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"
#include "common/time/patience.h"

namespace studio {
namespace {

// False where it is not within so many milliseconds; -1: without limit.
bool AwaitReadable(int fd, int limit_ms = -1) {
  pollfd wait = {fd, POLLIN, 0};
  int ready;
  while ((ready = poll(&wait, 1, limit_ms)) < 0 && errno == EINTR) {
  }
  return ready > 0;
}

// Appends what is there; false at the end.
bool ReadSome(int fd, std::string& text) {
  AwaitReadable(fd);
  char bytes[16 << 10];
  const ssize_t got = read(fd, bytes, sizeof bytes);
  if (got > 0) text.append(bytes, got);
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

void KillAndReap(std::unique_ptr<Process>& process) {
  if (process == nullptr) return;
  process->Kill(SIGKILL);
  AwaitReadable(process->ended());
  process.reset();
}

absl::StatusOr<ProcessEnd> AwaitEndOf(std::unique_ptr<Process>& process, const std::string& what) {
  const int limit_ms = static_cast<int>(absl::ToInt64Milliseconds(Patience(absl::Minutes(1))));
  if (!AwaitReadable(process->ended(), limit_ms)) return absl::DeadlineExceededError(what + " goes on");
  const ProcessEnd end = *process->Reap();
  process.reset();
  return end;
}

std::string Absolute(const std::string& path) { return std::filesystem::absolute(path).string(); }

}  // namespace

Cluster::Cluster(std::string folder, Binaries binaries, const std::string& host)
    : folder_(std::move(folder)), binaries_(std::move(binaries)), address_(host + ":0"), transfer_address_(address_) {}

absl::Status Cluster::StartController(const std::vector<std::string>& environment,
                                      const std::vector<std::string>& flags) {
  LaunchSpec spec;
  spec.argv = {Absolute(binaries_.controller),
               "--state-dir",
               folder_ + "/controller",
               "--listen",
               address_,
               "--transfer-listen",
               transfer_address_,
               "--metrics-listen",
               "127.0.0.1:0"};
  spec.argv.insert(spec.argv.end(), flags.begin(), flags.end());
  spec.environment = EnvironmentWith(environment);
  spec.output = LaunchSpec::Output::kPipe;
  ASSIGN_OR_RETURN(controller_, launcher_.Launch(spec));
  std::string printed;
  while (std::count(printed.begin(), printed.end(), '\n') < 2) {
    if (!ReadSome(controller_->output(), printed)) return absl::InternalError("the controller ended: " + printed);
  }
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(printed, '\n'))) {
    if (absl::StartsWith(line, "listening on ")) address_ = line.substr(13);
    if (absl::StartsWith(line, "transfers on ")) transfer_address_ = line.substr(13);
  }
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  api_ = v1::Controller::NewStub(grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments));
  return absl::OkStatus();
}

absl::Status Cluster::StartWorker(const std::vector<std::string>& prefix, const std::vector<std::string>& flags,
                                  const std::vector<std::string>& environment) {
  ASSIGN_OR_RETURN(worker_, LaunchWorker(binaries_, worker_state_dir(), prefix, flags, environment));
  return absl::OkStatus();
}

absl::Status Cluster::AddWorker(const std::string& name, const Binaries& binaries,
                                const std::vector<std::string>& flags) {
  ASSIGN_OR_RETURN(std::unique_ptr<Process> worker, LaunchWorker(binaries, folder_ + "/" + name, {}, flags, {}));
  more_workers_.push_back(std::move(worker));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Process>> Cluster::LaunchWorker(const Binaries& binaries, const std::string& state_dir,
                                                               const std::vector<std::string>& prefix,
                                                               const std::vector<std::string>& flags,
                                                               const std::vector<std::string>& environment) {
  LaunchSpec spec;
  spec.argv = prefix;
  for (const std::string& word :
       {Absolute(binaries.worker), std::string("--controller"), address_, std::string("--state-dir"), state_dir,
        std::string("--trainer"), Absolute(binaries.trainer)}) {
    spec.argv.push_back(word);
  }
  if (!binaries.dataprep.empty()) spec.argv.insert(spec.argv.end(), {"--dataprep", Absolute(binaries.dataprep)});
  spec.argv.insert(spec.argv.end(), flags.begin(), flags.end());
  spec.environment = EnvironmentWith(environment);
  return launcher_.Launch(spec);
}

void Cluster::KillController() { KillAndReap(controller_); }
void Cluster::KillWorker() { KillAndReap(worker_); }
absl::StatusOr<std::string> Cluster::VerifyController() {
  LaunchSpec spec;
  spec.argv = {Absolute(binaries_.controller), "verify", folder_ + "/controller"};
  spec.environment = EnvironmentWith({});
  return RunForOutput(launcher_, spec);
}

absl::StatusOr<ProcessEnd> Cluster::AwaitControllerEnd() { return AwaitEndOf(controller_, "the controller"); }
absl::StatusOr<ProcessEnd> Cluster::AwaitWorkerEnd() { return AwaitEndOf(worker_, "the worker"); }

absl::StatusOr<Cluster::Ctl> Cluster::RunCtl(const std::vector<std::string>& arguments) {
  LaunchSpec spec;
  spec.argv = {Absolute(binaries_.studioctl)};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.environment = EnvironmentWith({absl::StrCat("STUDIO_CONTROLLER=", address_), "HOME=" + folder_});
  spec.folder = folder_;
  spec.output = LaunchSpec::Output::kPipeBoth;
  ASSIGN_OR_RETURN(const std::unique_ptr<Process> process, launcher_.Launch(spec));
  Ctl ctl{0, ""};
  while (ReadSome(process->output(), ctl.output)) {
  }
  AwaitReadable(process->ended());
  const ProcessEnd end = *process->Reap();
  ctl.exit_code = end.signal != 0 ? -end.signal : end.exit_code;
  return ctl;
}

absl::StatusOr<std::string> Cluster::WriteJob(const Labels& labels, const std::string& more) {
  const std::string home = folder_ + "/client";
  RETURN_IF_ERROR(env_.MakeFolders(home + "/model"));
  RETURN_IF_ERROR(env_.WriteFile(home + "/rows.jsonl", "{\"instruction\": \"Say hi\", \"output\": \"hi\"}\n"));
  RETURN_IF_ERROR(env_.WriteFile(home + "/model/config.json", "{}\n"));
  std::string text = absl::StrCat(
      "name: \"noop\"\ndataset { train_dataframe: \"rows.jsonl\" }\narchitecture { llm_backbone: \"model\" }\n", more);
  for (const auto& [name, value] : labels) {
    absl::StrAppend(&text, "labels { key: \"", name, "\" value: \"", value, "\" }\n");
  }
  const std::string path = home + "/job.pb.txt";
  RETURN_IF_ERROR(env_.WriteFile(path, text));
  return path;
}

absl::StatusOr<std::string> Cluster::SubmitFile(const std::string& path, const std::vector<std::string>& sets) {
  std::vector<std::string> arguments = {"submit", path, "-o", "name"};
  for (const std::string& set : sets) arguments.insert(arguments.end(), {"--set", set});
  ASSIGN_OR_RETURN(const Ctl ctl, RunCtl(arguments));
  if (ctl.exit_code != 0) return absl::InternalError(absl::StrCat("submit: ", ctl.exit_code, ": ", ctl.output));
  return IdIn(ctl);
}

std::string Cluster::IdIn(const Ctl& ctl) {
  const absl::string_view output = absl::StripTrailingAsciiWhitespace(ctl.output);
  return std::string(output.substr(output.rfind('\n') + 1));
}

absl::StatusOr<std::string> Cluster::Submit(const Labels& labels, const std::string& more) {
  ASSIGN_OR_RETURN(const std::string path, WriteJob(labels, more));
  return SubmitFile(path);
}

absl::StatusOr<v1::JobRecord> Cluster::Await(const std::string& id,
                                             const std::function<bool(const v1::JobRecord&)>& wanted) {
  const auto deadline = absl::ToChronoTime(absl::Now() + Patience(absl::Minutes(2)));
  v1::WatchJobResponse response;
  while (true) {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    context.set_wait_for_ready(true);
    v1::WatchJobRequest request;
    request.set_id(id);
    const auto stream = api_->WatchJob(&context, request);
    while (stream->Read(&response)) {
      if (!wanted(response.record())) continue;
      const v1::JobRecord found = response.record();
      context.TryCancel();
      while (stream->Read(&response)) {
      }
      (void)stream->Finish();
      return found;
    }
    const absl::Status status = FromGrpc(stream->Finish());
    // The controller died, or stopped in a hurry (CANCELLED): watch the next one.
    if (absl::IsUnavailable(status) || absl::IsCancelled(status)) continue;
    if (!status.ok())
      return absl::Status(status.code(),
                          absl::StrCat(status.message(), "; last seen: ", response.record().ShortDebugString()));
    return absl::FailedPreconditionError(absl::StrCat("the job ended: ", response.record().ShortDebugString()));
  }
}

absl::StatusOr<v1::JobRecord> Cluster::AwaitState(const std::string& id, v1::JobState state) {
  return Await(id, [state](const v1::JobRecord& record) { return record.state() == state; });
}

}  // namespace studio
