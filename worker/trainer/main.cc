// studio-trainer: one rank. See `--help`, and proto/studio/v1/trainer.proto for what an agent exchanges with it.
#include <google/protobuf/text_format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/env/posix_env.h"
#include "common/job/job_rules.h"
#include "common/job/job_text.h"
#include "common/memory/process_end.h"
#include "common/status/macros.h"
#include "common/version/version.h"
#include "worker/trainer/agent_link/agent_link.h"
#include "worker/trainer/agent_link/console_link.h"
#include "worker/trainer/agent_link/logged_link.h"
#include "worker/trainer/checkpoint/checkpoint_folder.h"
#include "worker/trainer/device/device.h"
#include "worker/trainer/local_paths.h"
#include "worker/trainer/loop/run_task.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/parallel/peer_loss.h"
#include "worker/trainer/probe/inventory.h"
#include "worker/trainer/status/failure.h"
#include "worker/trainer/verify/verify.h"

namespace studio {
namespace {

constexpr int kUsage = 2;

std::atomic<bool> stop_requested = false;

void RequestStop(int) {
  // A second signal does what it always does.
  stop_requested = true;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

struct Flags {
  std::string job, task, out, resume, data_dir, dump_batches, profile;
  std::vector<std::string> set;
  StepAsked step;
  bool probe = false;
  bool verify = false;
  bool version = false;
};

std::optional<int> NumberInEnvironment(const char* name) {
  const char* text = std::getenv(name);
  int value = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &value)) return std::nullopt;
  return value;
}

// Ranks that share this machine, as torchrun and the agent say it, and the socket that rank 0's store listens on.
RankPlace PlaceInEnvironment() {
  return {NumberInEnvironment("LOCAL_WORLD_SIZE").value_or(1), NumberInEnvironment("STUDIO_STORE_FD")};
}

// Without an agent: one of several ranks where RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT say so.
void TakePlaceInEnvironment(v1::TrainerTask& task) {
  task.set_world_size(NumberInEnvironment("WORLD_SIZE").value_or(1));
  if (task.world_size() == 1) return;
  task.mutable_rank()->set_rank(NumberInEnvironment("RANK").value_or(0));
  task.mutable_rank()->set_local_rank(NumberInEnvironment("LOCAL_RANK").value_or(task.rank().rank()));
  const char* const address = std::getenv("MASTER_ADDR");
  task.mutable_rendezvous()->set_address(address == nullptr ? "127.0.0.1" : address);
  task.mutable_rendezvous()->set_port(NumberInEnvironment("MASTER_PORT").value_or(0));
}

// A job's file as a task on this machine.
absl::StatusOr<v1::TrainerTask> TaskOfJob(const Flags& flags, Env& env) {
  ASSIGN_OR_RETURN(const std::string text, env.ReadFile(flags.job));
  ASSIGN_OR_RETURN(v1::Job job, ParseJobText(text, flags.job));
  for (const std::string& assignment : flags.set) RETURN_IF_ERROR(ApplySet(job, assignment));
  job = WithDefaults(std::move(job));
  RETURN_IF_ERROR(Validate(job));
  RETURN_IF_ERROR(ResolveLocalPaths(job, std::filesystem::absolute(flags.job).parent_path().string()));

  v1::TrainerTask task;
  task.set_job_id(job.name());
  task.set_attempt(1);
  TakePlaceInEnvironment(task);
  *task.mutable_job() = std::move(job);
  task.set_out_dir(std::filesystem::absolute(flags.out).lexically_normal().string());
  task.set_data_dir(flags.data_dir.empty() ? absl::StrCat(task.out_dir(), "/data") : flags.data_dir);
  if (!flags.resume.empty()) {
    ASSIGN_OR_RETURN(*task.mutable_resume_dir(), FindCheckpoint(env, flags.resume));
  } else {
    ASSIGN_OR_RETURN(const std::vector<int64_t> old, ListCheckpoints(env, task.out_dir() + "/checkpoints"));
    if (!old.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat(task.out_dir(), "/checkpoints holds checkpoints of an earlier run (the last of step ",
                       old.back(), "): go on from them with --resume ", flags.out, ", or choose another --out"));
    }
  }
  return task;
}

absl::StatusOr<v1::TrainerTask> ReadTask(const std::string& path, Env& env) {
  ASSIGN_OR_RETURN(const std::string text, env.ReadFile(path));
  v1::TrainerTask task;
  if (!google::protobuf::TextFormat::ParseFromString(text, &task)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a TrainerTask in text form"));
  }
  return task;
}

int Fail(const absl::Status& status) {
  std::cerr << "studio-trainer: " << v1::Reason_Name(ReasonOf(status)) << ": " << Explained(status) << std::endl;
  return ExitCode(ReasonOf(status));
}

int RunAlone(const Flags& flags) {
  PosixEnv env;
  const absl::StatusOr<v1::TrainerTask> task = TaskOfJob(flags, env);
  if (!task.ok()) return Fail(task.status());
  std::signal(SIGINT, RequestStop);
  std::signal(SIGTERM, RequestStop);
  ConsoleLink link(std::cout, stop_requested);
  const absl::StatusOr<RunSummary> summary =
      RunTask(*task, link, env, {flags.dump_batches, flags.step, flags.profile, PlaceInEnvironment()});
  if (!summary.ok()) return Fail(summary.status());
  std::cout << (summary->stopped ? "go on with --resume " : "result in ")
            << (summary->stopped ? task->out_dir() : task->out_dir() + "/result") << std::endl;
  return 0;
}

// The agent is the parent: it reads the end from the socket, stderr and the exit code.
int RunForAgent(const Flags& flags, int fd) {
  PosixEnv env;
  // From here on nothing of this rank counts: it ends in the middle of whatever it does. Files appear by rename alone.
  AgentLink agent(fd, [](AgentLink::Over why) { _exit(why == AgentLink::Over::kEpochOver ? 0 : 70); });
  LoggedLink link(agent, std::cerr);
  const absl::StatusOr<v1::TrainerTask> task = ReadTask(flags.task, env);
  absl::Status status = task.status();
  if (status.ok()) {
    const RunOptions options = {flags.dump_batches, flags.step, flags.profile, PlaceInEnvironment()};
    status = RunTask(*task, link, env, options).status();
  }
  if (status.ok()) return 0;
  v1::TrainerUp event;
  event.mutable_failure()->set_reason(ReasonOf(status));
  event.mutable_failure()->set_message(Explained(status));
  event.mutable_failure()->set_lost_peers(IsPeerLoss(status));
  link.Send(std::move(event));
  return Fail(status);
}

int Probe() {
  v1::Inventory inventory;
  const absl::Status status = CatchTorch([&] { inventory = TakeInventory(); });
  if (!status.ok()) return Fail(status);
  std::string text;
  google::protobuf::TextFormat::PrintToString(inventory, &text);
  std::cout << text << std::flush;
  return 0;
}

// In a folder of its own, which is gone afterwards.
int VerifyMachine() {
  std::string folder = (std::filesystem::temp_directory_path() / "studio-verify-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return Fail(absl::ErrnoToStatus(errno, folder));
  const absl::StatusOr<at::Device> device = ChooseDevice(v1::BACKEND_AUTO, 0);
  if (!device.ok()) return Fail(device.status());
  const VerifyReport report = Verify(*device, folder);
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  std::cout << report.Text() << std::flush;
  return report.passed() ? 0 : kExitCrash;
}

int Main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_color_mt("studio-trainer"));
  Flags flags;
  CLI::App app("Fine-tunes a language model: one rank, alone or for an agent.");
  app.add_option("--job", flags.job, "the job, in text form; relative paths in it are relative to its file");
  app.add_option("--out", flags.out, "folder for result/, checkpoints/ and summary.json (with --job)");
  app.add_option("--set", flags.set, "a field of the job by its dotted path: training.learning_rate=1e-4")
      ->expected(1)
      ->take_all();
  app.add_option("--resume", flags.resume, "a checkpoint, or a folder whose newest one is taken");
  app.add_option("--data-dir", flags.data_dir, "folder for prepared data, shared by runs (default: OUT/data)");
  app.add_option("--dump-batches", flags.dump_batches, "write every batch that is trained to this file");
  app.add_option("--step", flags.step.kind,
                 "what makes the gradients: auto, planned or autograd (see docs/performance.md)")
      ->transform(CLI::CheckedTransformer(std::map<std::string, StepKind>{
          {"auto", StepKind::kAuto}, {"planned", StepKind::kPlanned}, {"autograd", StepKind::kAutograd}}));
  app.add_option("--ahead", flags.step.ahead,
                 "record steps that repeat and read a loss when the next step is queued: auto (on CUDA), on or off")
      ->transform(CLI::CheckedTransformer(
          std::map<std::string, Ahead>{{"auto", Ahead::kAuto}, {"on", Ahead::kOn}, {"off", Ahead::kOff}}));
  app.add_option("--profile", flags.profile, "write the timeline of the eleventh step to this file, as a Chrome trace");
  app.add_option("--task", flags.task, "the task, in text form, from an agent whose socket is STUDIO_AGENT_FD");
  app.add_flag("--probe", flags.probe, "print what this machine has, in text form");
  app.add_flag("--verify", flags.verify, "check this machine's numerics, measure its speed, and print a report");
  app.add_flag("--version", flags.version, "print the version");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }

  if (flags.version) {
    std::cout << "studio-trainer " << kVersion << " (LibTorch " << STUDIO_LIBTORCH_VERSION << ")" << std::endl;
    return 0;
  }
  if (flags.probe) return Probe();
  if (flags.verify) return VerifyMachine();
  if (!flags.task.empty()) {
    const char* text = std::getenv("STUDIO_AGENT_FD");
    int fd = -1;
    if (text == nullptr || !absl::SimpleAtoi(text, &fd) || fd < 0) {
      std::cerr << "--task needs the agent's socket in STUDIO_AGENT_FD" << std::endl;
      return kUsage;
    }
    return RunForAgent(flags, fd);
  }
  if (flags.job.empty() || flags.out.empty()) {
    std::cerr << "studio-trainer --job FILE --out DIR, --task FILE, --probe, --verify or --version; see --help"
              << std::endl;
    return kUsage;
  }
  return RunAlone(flags);
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) {
  // oneDNN keeps a compiled product for every length that it sees, 1,024 of them where nothing is said: with packed
  // rows that is a GiB. 64 cost no time (docs/performance.md).
  setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64", /*overwrite=*/0);
  setenv("LRU_CACHE_CAPACITY", "64", /*overwrite=*/0);
  return studio::Main(argc, argv);
}
