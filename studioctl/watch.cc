#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "studioctl/commands.h"
#include "studioctl/follow.h"

namespace studio::ctl {
namespace {

struct WatchFlags {
  std::string id;
  double patience_seconds = 600;
};

struct LogFlags {
  std::string id;
  int attempt = 0;
  int rank = 0;
  bool follow = false;
};

// Writes what there is, then (with --follow) what comes, going on at the same byte after a broken connection.
ExitCode Logs(Connection& connection, const LogFlags& flags) {
  Console& console = connection.console();
  v1::ReadLogsRequest request;
  request.set_id(flags.id);
  request.set_attempt(flags.attempt);
  request.set_rank(flags.rank);
  request.set_follow(flags.follow);
  absl::Duration wait = absl::Milliseconds(100);
  bool reached = false;
  for (int lost = 0;;) {
    grpc::ClientContext context;
    const Interrupt::Scope scope(console.interrupt, [&] { context.TryCancel(); });
    const auto stream = connection.stub().ReadLogs(&context, request);
    v1::LogLines lines;
    while (stream->Read(&lines)) {
      reached = true;
      lost = 0;
      wait = absl::Milliseconds(100);
      console.out << lines.data() << std::flush;
      request.set_offset(lines.offset() + static_cast<int64_t>(lines.data().size()));
      if (lines.attempt() > 0) request.set_attempt(lines.attempt());
    }
    const grpc::Status status = stream->Finish();
    if (status.ok() || console.interrupt.raised()) return kDone;
    // CANCELLED: a controller that stops in a hurry.
    const bool away =
        status.error_code() == grpc::StatusCode::UNAVAILABLE || status.error_code() == grpc::StatusCode::CANCELLED;
    if (!away || !reached || ++lost > 60) return Fail(console, connection.Explained(status));
    console.interrupt.WaitFor(wait);
    wait = std::min(2 * wait, absl::Seconds(5));
  }
}

}  // namespace

void AddWatch(CLI::App& app, Program& program) {
  CLI::App& watch = *app.add_subcommand("watch", "Show a job's progress and end with its outcome");
  const auto watch_flags = std::make_shared<WatchFlags>();
  watch.add_option("JOB", watch_flags->id, "the job's id, as j7")->required();
  watch.add_option("--patience", watch_flags->patience_seconds,
                   "seconds to wait for a controller that went away (default 600)");
  OnCall(watch, program, [watch_flags](Connection& connection, const Settings&) {
    FollowOptions options;
    options.patience = absl::Seconds(watch_flags->patience_seconds);
    return Follow(connection, watch_flags->id, options);
  });

  CLI::App& logs = *app.add_subcommand("logs", "What the job's trainer wrote");
  const auto log_flags = std::make_shared<LogFlags>();
  logs.add_option("JOB", log_flags->id, "the job's id, as j7")->required();
  logs.add_option("--attempt", log_flags->attempt, "which attempt (default: the last)")->check(CLI::Range(1, 1000000));
  logs.add_option("--rank", log_flags->rank, "which rank (default 0)")->check(CLI::Range(0, 1000000));
  logs.add_flag("-f,--follow", log_flags->follow, "go on until the job ends");
  OnCall(logs, program, [log_flags](Connection& connection, const Settings&) { return Logs(connection, *log_flags); });
}

}  // namespace studio::ctl
