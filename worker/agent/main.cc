// studio-worker: dials a controller and runs on this machine what it assigns.
#include <poll.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/env/file_lock.h"
#include "common/env/posix_env.h"
#include "common/env/posix_launcher.h"
#include "common/metrics/metrics.h"
#include "common/metrics/metrics_server.h"
#include "common/platform/describe.h"
#include "common/status/macros.h"
#include "common/version/version.h"
#include "worker/agent/agent.h"
#include "worker/agent/cache.h"
#include "worker/agent/cache_keeper.h"
#include "worker/agent/channel_process.h"
#include "worker/agent/grpc_link.h"
#include "worker/agent/identity.h"
#include "worker/agent/inventory.h"
#include "worker/agent/store_artifacts.h"
#include "worker/agent/thread_background.h"

namespace studio::worker {
namespace {

struct Flags {
  std::string controller = "127.0.0.1:7070";
  std::string state_dir;
  std::string trainer;
  std::string dataprep;
  std::vector<std::string> shared_roots;
  std::string metrics_listen;
  int64_t cache_bytes = int64_t{200} << 30;
  double drain_seconds = 60;
  int cpu_ranks = 1;
  bool probe = false;
  bool verify = false;
  std::string probe_format = "text";
};

std::string DefaultStateDir() {
  if (geteuid() == 0) return "/var/lib/studio/worker";
  const char* home = getenv("HOME");
  return absl::StrCat(home != nullptr ? home : ".", "/.local/state/studio/worker");
}

absl::StatusOr<std::vector<std::string>> CheckRoots(const std::vector<std::string>& roots) {
  std::vector<std::string> absolute;
  for (const std::string& root : roots) {
    std::error_code error;
    const std::filesystem::path path = std::filesystem::canonical(root, error);
    if (error) return absl::InvalidArgumentError(absl::StrCat("--shared-root ", root, ": ", error.message()));
    absolute.push_back(path.string());
  }
  return absolute;
}

std::vector<std::string> TrainerCandidates(const Flags& flags) {
  if (!flags.trainer.empty()) return {std::filesystem::absolute(flags.trainer).string()};
  std::error_code error;
  const std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  return {beside / "studio-trainer-cuda", beside / "studio-trainer"};
}

// The lock that every rank inherits: getting it proves that those of earlier starts are dead. They end by themselves
// when their agent is gone, within moments.
absl::StatusOr<FileLock> AwaitEarlierRanks(const std::string& path) {
  absl::StatusOr<FileLock> lock = FileLock::TryAcquire(path);
  if (lock.ok() || !absl::IsUnavailable(lock.status())) return lock;
  spdlog::warn("waiting for ranks of an earlier start to end ({})", lock.status().ToString());
  return FileLock::Acquire(path);
}

std::string Hostname() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return name;
}

// For people and scripts: what this machine is and has. Touches no state, dials nobody.
absl::Status Probe(const Flags& flags) {
  PosixLauncher launcher;
  ASSIGN_OR_RETURN(const ProbedTrainer trainer, ProbeTrainer(launcher, TrainerCandidates(flags)));
  std::cout << (flags.probe_format == "json" ? InventoryAsJson(trainer.inventory)
                                             : DescribeInventory(trainer.inventory))
            << std::flush;
  return absl::OkStatus();
}

// The trainer's report of its numerics and speed, after what the machine is: one text that a person can send.
absl::StatusOr<ProcessEnd> Verify(const Flags& flags) {
  RETURN_IF_ERROR(Probe(flags));
  PosixLauncher launcher;
  ASSIGN_OR_RETURN(const ProbedTrainer trainer, ProbeTrainer(launcher, TrainerCandidates(flags)));
  ASSIGN_OR_RETURN(const std::unique_ptr<Process> process,
                   launcher.Launch({.argv = {trainer.path, "--verify"}, .environment = EnvironmentWith({})}));
  pollfd ended = {process->ended(), POLLIN, 0};
  while (poll(&ended, 1, -1) < 0 && errno == EINTR) {
  }
  return process->Reap().value_or(ProcessEnd{.exit_code = 1});
}

// The page is printed where its figures belong. Empty where the loop has ended.
std::string OnLoop(Loop& loop, const std::function<std::string()>& print) {
  auto printed = std::make_shared<std::promise<std::string>>();
  loop.Post([printed, print] { printed->set_value(print()); });
  std::future<std::string> page = printed->get_future();
  return page.wait_for(std::chrono::seconds(2)) == std::future_status::ready ? page.get() : "";
}

absl::Status Run(Flags flags) {
  PosixEnv env;
  PosixLauncher launcher;
  if (flags.state_dir.empty()) flags.state_dir = DefaultStateDir();
  RETURN_IF_ERROR(env.MakeFolders(flags.state_dir));
  flags.state_dir = std::filesystem::canonical(flags.state_dir).string();
  ASSIGN_OR_RETURN(flags.shared_roots, CheckRoots(flags.shared_roots));

  const absl::StatusOr<FileLock> agent_lock = FileLock::TryAcquire(absl::StrCat(flags.state_dir, "/agent.lock"));
  if (absl::IsUnavailable(agent_lock.status())) {
    return absl::FailedPreconditionError(absl::StrCat("another studio-worker runs with --state-dir ", flags.state_dir,
                                                      ": stop it, or give this one a folder of its own"));
  }
  RETURN_IF_ERROR(agent_lock.status());
  ASSIGN_OR_RETURN(const FileLock ranks_lock, AwaitEarlierRanks(absl::StrCat(flags.state_dir, "/ranks.lock")));

  ASSIGN_OR_RETURN(ProbedTrainer trainer, ProbeTrainer(launcher, TrainerCandidates(flags)));
  RETURN_IF_ERROR(OfferCpuRanks(trainer.inventory, flags.cpu_ranks));
  std::random_device random;
  ASSIGN_OR_RETURN(const Identity identity, StartIdentity(env, flags.state_dir, Hostname(), random()));
  ASSIGN_OR_RETURN(const std::unique_ptr<Journal> journal,
                   Journal::Open(env, absl::StrCat(flags.state_dir, "/journal")));
  if (journal->dropped_bytes() > 0) {
    spdlog::warn("the journal ended in {} bytes of a write that was cut short", journal->dropped_bytes());
  }
  EventLoop loop;
  Agent* running = nullptr;  // the loop's
  ASSIGN_OR_RETURN(
      const std::unique_ptr<StoreArtifacts> artifacts,
      StoreArtifacts::Open(
          absl::StrCat(flags.state_dir, "/content"), absl::StrCat(flags.state_dir, "/kept"), flags.controller,
          [&loop, &running](const absl::Status& status) { loop.Post([&running, status] { running->Fail(status); }); }));

  Agent::Options options;
  options.seed = random();
  options.drain_grace = absl::Seconds(flags.drain_seconds);
  v1::Hello& hello = options.hello;
  hello.set_min_protocol(kMinProtocol);
  hello.set_max_protocol(kMaxProtocol);
  hello.set_worker_id(identity.worker_id);
  hello.set_incarnation(identity.incarnation);
  hello.set_boot_id(identity.boot_id);
  hello.set_version(kVersion);
  *hello.mutable_inventory() = trainer.inventory;
  hello.set_earlier_ranks_dead(true);
  for (const std::string& root : flags.shared_roots) hello.add_shared_roots(root);

  std::string dataprep;
  if (trainer.inventory.needs_data()) {
    dataprep = flags.dataprep.empty() ? (std::filesystem::path(trainer.path).parent_path() / "studio-dataprep").string()
                                      : std::filesystem::absolute(flags.dataprep).string();
    if (!env.Exists(dataprep)) {
      return absl::FailedPreconditionError(absl::StrCat(dataprep, " is not there, and it prepares the data for ",
                                                        trainer.path, ": name it with --dataprep"));
    }
  }
  spdlog::info("worker {} (start {}) with {}, state in {}", identity.worker_id, identity.incarnation, trainer.path,
               flags.state_dir);
  for (const std::string& note : trainer.inventory.notes()) spdlog::warn("{}", note);

  ThreadBackground background(loop);
  ChannelLauncher ranks(loop, env, launcher);
  Agent agent(options,
              Machine{loop, background, env, ranks, *artifacts, identity.worker_id, flags.state_dir, flags.shared_roots,
                      trainer.path, dataprep, ranks_lock.fd(), trainer.inventory},
              *journal, [&](ControllerLink::Callbacks callbacks) {
                return std::make_unique<GrpcLink>(loop, flags.controller, std::move(callbacks));
              });
  running = &agent;
  Cache cache(flags.state_dir, artifacts->store(), flags.cache_bytes);
  CacheKeeper cache_keeper(loop, background, cache, [&agent] { return agent.InUse(); });
  std::unique_ptr<MetricsServer> metrics;
  if (!flags.metrics_listen.empty()) {
    ASSIGN_OR_RETURN(metrics, MetricsServer::Start(flags.metrics_listen, [&] {
                       return OnLoop(loop, [&] {
                         MetricsText text;
                         agent.Describe(text);
                         text.Counter("studio_worker_uploaded_bytes_total",
                                      "Bytes sent to the controller's content store.", {}, artifacts->sent_bytes());
                         text.Gauge("studio_worker_cache_bytes",
                                    "Inputs, token shards and blobs kept here, as last counted.", {},
                                    static_cast<double>(cache.bytes()));
                         text.Counter("studio_worker_cache_dropped_bytes_total", "Bytes of these that made room.", {},
                                      cache.taken_bytes());
                         return std::move(text).Take();
                       });
                     }));
    spdlog::info("metrics on http://{}/metrics", metrics->address());
  }
  // Signals arrive on a thread of their own: a handler could not touch the loop.
  std::thread signals([&loop, &agent] {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int signal : {SIGTERM, SIGINT, SIGUSR2}) sigaddset(&wanted, signal);
    int signal = 0;
    while (sigwait(&wanted, &signal) == 0 && signal != SIGUSR2) loop.Post([&agent] { agent.Drain(); });
  });
  agent.Start();
  cache_keeper.Start();
  loop.Run();
  metrics.reset();
  pthread_kill(signals.native_handle(), SIGUSR2);
  signals.join();
  return agent.outcome();
}

}  // namespace
}  // namespace studio::worker

int main(int argc, char** argv) {
  studio::worker::Flags flags;
  CLI::App app("Runs jobs of a Studio controller on this machine.", "studio-worker");
  app.add_option("--controller", flags.controller, "controller to dial, HOST:PORT")
      ->envname("STUDIO_CONTROLLER")
      ->capture_default_str();
  app.add_option("--state-dir", flags.state_dir, "folder for this worker's state")->envname("STUDIO_WORKER_STATE_DIR");
  app.add_option("--trainer", flags.trainer,
                 "trainer to run (default: studio-trainer-cuda or studio-trainer beside this)");
  app.add_option("--dataprep", flags.dataprep,
                 "program that prepares data (default: studio-dataprep beside the trainer)");
  app.add_option("--shared-root", flags.shared_roots, "folder that jobs may name files in by file: URIs (repeatable)");
  app.add_option("--metrics-listen", flags.metrics_listen, "HOST:PORT of /metrics for Prometheus (default: none)");
  app.add_option("--cache-bytes", flags.cache_bytes,
                 "most bytes of inputs, prepared data and blobs that are kept for later jobs")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--drain-seconds", flags.drain_seconds, "how long ranks may take to checkpoint on SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--cpu-ranks", flags.cpu_ranks,
                 "ranks that this machine's CPU serves at once, each a device that jobs can ask for")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_flag("--probe", flags.probe, "print what this machine is and has, and end");
  app.add_option("--probe-format", flags.probe_format, "how --probe prints")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_flag("--verify", flags.verify,
               "check that this machine trains rightly, measure its speed, print a report, and end: 0 where it passes");
  app.set_version_flag("--version", std::string(studio::kVersion));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  spdlog::set_default_logger(spdlog::stderr_logger_mt("studio-worker"));
  // Before any thread: all of them must leave these signals to the one that waits for them.
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : {SIGTERM, SIGINT, SIGUSR2}) sigaddset(&blocked, signal);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  signal(SIGPIPE, SIG_IGN);
  if (flags.verify) {
    const absl::StatusOr<studio::ProcessEnd> end = studio::worker::Verify(flags);
    if (end.ok()) return end->signal == 0 ? end->exit_code : 1;
    spdlog::error("{}", end.status().ToString());
    return 1;
  }
  const absl::Status status = flags.probe ? studio::worker::Probe(flags) : studio::worker::Run(flags);
  if (status.ok()) return 0;
  spdlog::error("{}", status.ToString());
  return 1;
}
