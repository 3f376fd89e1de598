#include "common/env/process.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status/macros.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): macOS does not declare it

namespace studio {

absl::StatusOr<std::string> RunForOutput(Launcher& launcher, LaunchSpec spec) {
  spec.output = LaunchSpec::Output::kPipe;
  ASSIGN_OR_RETURN(const std::unique_ptr<Process> process, launcher.Launch(spec));
  std::string printed;
  while (true) {
    char buffer[16 << 10];
    const ssize_t got = read(process->output(), buffer, sizeof buffer);
    if (got > 0) {
      printed.append(buffer, got);
    } else if (got < 0 && errno == EAGAIN) {
      pollfd wait = {process->output(), POLLIN, 0};
      poll(&wait, 1, -1);
    } else if (got == 0 || errno != EINTR) {
      break;
    }
  }
  pollfd wait = {process->ended(), POLLIN, 0};
  while (poll(&wait, 1, -1) < 0 && errno == EINTR) {
  }
  const ProcessEnd end = *process->Reap();
  if (end == ProcessEnd{}) return printed;
  return absl::FailedPreconditionError(
      absl::StrCat(absl::StrJoin(spec.argv, " "), end.signal != 0 ? " died of signal " : " ended with exit code ",
                   end.signal != 0 ? end.signal : end.exit_code, printed.empty() ? "" : ": ", printed.substr(0, 1000)));
}

std::vector<std::string> EnvironmentWith(const std::vector<std::string>& additions) {
  std::map<std::string, std::string> values;
  const auto add = [&](const std::string& pair) { values[pair.substr(0, pair.find('='))] = pair; };
  for (char** pair = environ; *pair != nullptr; ++pair) add(*pair);
  for (const std::string& pair : additions) add(pair);
  std::vector<std::string> environment;
  for (const auto& [unused, pair] : values) environment.push_back(pair);
  return environment;
}

}  // namespace studio
