// studio-controller: accepts jobs, decides where they run, keeps what must not be lost; and backup, restore, verify.
#include <pthread.h>
#include <signal.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/time/time.h"
#include "common/version/version.h"
#include "controller/api/server.h"
#include "controller/commands.h"

namespace {

std::string DefaultStateDir() {
  if (geteuid() == 0) return "/var/lib/studio";
  const char* home = std::getenv("HOME");
  return std::string(home != nullptr ? home : ".") + "/.local/state/studio";
}

std::string EnvironmentOr(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

// Serves until a signal, or until the store fails.
int Serve(studio::controller::ServerOptions options) {
  // Before any thread: each inherits the mask, and only sigwait below sees the signals.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);

  std::atomic<bool> failed = false;
  options.on_failure = [&failed](absl::Status) {
    if (!failed.exchange(true)) kill(getpid(), SIGTERM);
  };
  if (options.insecure) spdlog::warn("--insecure: whoever reaches {} can run jobs", options.listen);
  auto server = studio::controller::Server::Start(options);
  if (!server.ok()) {
    spdlog::error("{}", std::string(server.status().message()));
    return 1;
  }
  std::cout << "listening on " << (*server)->address() << "\n"
            << "transfers on " << (*server)->transfer_address() << std::endl;
  if (!(*server)->metrics_address().empty()) {
    spdlog::info("metrics on http://{}/metrics", (*server)->metrics_address());
  }
  int signal_number = 0;
  sigwait(&signals, &signal_number);
  spdlog::info("stopping");
  (*server)->Stop();
  return failed ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  studio::controller::ServerOptions options;
  options.state_dir = DefaultStateDir();
  std::string address = EnvironmentOr("STUDIO_CONTROLLER", options.listen), name, folder;
  CLI::App app("Accepts jobs, decides where they run and keeps what must not be lost.", "studio-controller");
  app.add_option("--state-dir", options.state_dir, "Folder of jobs, files and logs")->capture_default_str();
  app.add_option("--listen", options.listen, "HOST:PORT of the API; port 0 picks one")->capture_default_str();
  app.add_option("--transfer-listen", options.transfer_listen, "HOST:PORT of file transfers")->capture_default_str();
  app.add_option("--metrics-listen", options.metrics_listen, "HOST:PORT of /metrics for Prometheus; empty: none")
      ->capture_default_str();
  app.add_flag("--insecure", options.insecure, "Listen beyond this machine without credentials");
  double lost_after = absl::ToDoubleSeconds(options.session.lost_after);
  app.add_option("--lost-after", lost_after,
                 "Seconds of a worker's silence after which it gets no work and its jobs' fences begin")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  app.add_option("--max-content-bytes", options.max_content_bytes,
                 "Most bytes of uploaded files, checkpoints and results; 0: what the disk holds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  double keep_superseded_minutes = absl::ToDoubleMinutes(options.keep_superseded);
  app.add_option("--keep-superseded-minutes", keep_superseded_minutes,
                 "How long a checkpoint's file stays after a newer one replaced it")
      ->check(CLI::Range(0.0, 525600.0))
      ->capture_default_str();
  double keep_uploads_hours = absl::ToDoubleHours(options.keep_uploads);
  app.add_option("--keep-uploads-hours", keep_uploads_hours, "How long an uploaded file stays that no job names")
      ->check(CLI::Range(0.01, 87600.0))
      ->capture_default_str();
  app.add_option("--keep-jobs", options.keep_jobs,
                 "Jobs that ended and are kept with their files; older ones go to the archive: `get` alone finds them")
      ->check(CLI::Range(int64_t{0}, int64_t{10'000'000}))
      ->capture_default_str();
  double keep_days = 0, keep_logs_days = absl::ToDoubleHours(options.keep_logs) / 24;
  app.add_option("--keep-days", keep_days, "Days after their end that jobs are kept at most; 0: --keep-jobs decides")
      ->check(CLI::Range(0.0, 36500.0))
      ->capture_default_str();
  app.add_option("--keep-logs-days", keep_logs_days, "Days after its last line that an archived job's log is kept")
      ->check(CLI::Range(0.0, 36500.0))
      ->capture_default_str();
  app.set_version_flag("--version", studio::kVersion);
  app.require_subcommand(0, 1);
  CLI::App* backup = app.add_subcommand("backup", "Has the running controller write a backup, and prints its folder");
  backup->add_option("--controller", address, "HOST:PORT of its API")->capture_default_str();
  backup->add_option("name", name, "Of the backup; without it, the time");
  CLI::App* restore = app.add_subcommand("restore", "Makes a new --state-dir from a backup");
  restore->add_option("folder", folder, "The backup's folder")->required();
  CLI::App* verify =
      app.add_subcommand("verify", "Checks a backup, or the state folder of a controller that is stopped");
  verify->add_option("folder", folder, "Without it: --state-dir");
  for (CLI::App* command : {restore, verify}) command->fallthrough();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("controller"));
  if (*backup) return studio::controller::Backup(address, name);
  if (*restore) return studio::controller::Restore(folder, options.state_dir);
  if (*verify) return studio::controller::Verify(folder.empty() ? options.state_dir : folder);
  if (keep_days > 0) options.keep_ended = absl::Hours(24 * keep_days);
  options.keep_logs = absl::Hours(24 * keep_logs_days);
  options.keep_superseded = absl::Minutes(keep_superseded_minutes);
  options.keep_uploads = absl::Hours(keep_uploads_hours);
  options.session.lost_after = absl::Seconds(lost_after);
  options.session.heartbeat = options.session.lost_after / 3;
  return Serve(std::move(options));
}
