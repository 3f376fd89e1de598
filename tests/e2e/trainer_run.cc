#include "tests/e2e/trainer_run.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/env/posix_launcher.h"
#include "common/status/check.h"

namespace studio {

TrainerRun::TrainerRun(std::vector<std::string> arguments, bool channel, const std::string& program) {
  LaunchSpec spec;
  spec.argv = {program};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.environment = EnvironmentWith({channel ? absl::StrCat("STUDIO_AGENT_FD=", kChannelFd) : "STUDIO_AGENT_FD="});
  spec.output = LaunchSpec::Output::kPipeBoth;
  spec.channel = channel;
  PosixLauncher launcher;
  absl::StatusOr<std::unique_ptr<Process>> process = launcher.Launch(spec);
  STUDIO_CHECK(process.ok()) << process.status();
  process_ = *std::move(process);
}

bool TrainerRun::ReadSome() {
  pollfd ready = {process_->output(), POLLIN, 0};
  while (poll(&ready, 1, -1) < 0 && errno == EINTR) {
  }
  char buffer[4096];
  const ssize_t got = read(process_->output(), buffer, sizeof(buffer));
  if (got > 0) output_.append(buffer, got);
  return got > 0;
}

bool TrainerRun::WaitForLine(const std::string& text) {
  while (true) {
    const size_t found = output_.find(text, searched_);
    if (found != output_.npos) {
      searched_ = found + text.size();
      return true;
    }
    if (!ReadSome()) return false;
  }
}

int TrainerRun::Wait() {
  while (ReadSome()) {
  }
  pollfd ended = {process_->ended(), POLLIN, 0};
  while (poll(&ended, 1, -1) < 0 && errno == EINTR) {
  }
  const std::optional<ProcessEnd> end = process_->Reap();
  STUDIO_CHECK(end.has_value());
  return end->signal != 0 ? -end->signal : end->exit_code;
}

}  // namespace studio
