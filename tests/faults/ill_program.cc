#include "tests/faults/ill_program.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/env/posix_env.h"
#include "common/status/macros.h"
#include "common/time/patience.h"

namespace studio {

absl::StatusOr<IllProgram> IllProgram::Create(const std::string& folder, const std::string& program,
                                              const Fault& fault) {
  const std::string name = std::filesystem::path(program).filename().string();
  const std::string script = absl::StrCat(folder, "/ill-", name);
  const std::string real = std::filesystem::absolute(program).string();
  const std::string library = std::filesystem::absolute("tests/faults/libill_disk.so").string();
  const bool full = fault.error == Error::kFull;
  const std::string wish = absl::StrCat(name, " ", fault.under, " ", fault.call == Call::kSync ? "sync" : "write", " ",
                                        fault.nth, " ", full ? "ENOSPC" : "EIO", " ", script, ".log");
  PosixEnv env;
  if (full) RETURN_IF_ERROR(env.WriteFile(script + ".log.full", ""));
  // One first life, whatever it is started for.
  RETURN_IF_ERROR(env.WriteFile(
      script, absl::StrCat("#!/bin/sh\nif mkdir '", script, ".lived' 2>/dev/null; then\n  STUDIO_ILL_DISK='", wish,
                           "' LD_PRELOAD='", library, "' '", real, "' \"$@\"\n  echo $? >'", script,
                           ".ends'\n  rm -f '", script, ".log.full'\nfi\nexec '", real, "' \"$@\"\n")));
  if (chmod(script.c_str(), 0755) != 0) return PosixError(errno, "making executable", script);
  const std::string ends = script + ".ends";
  if (mkfifo(ends.c_str(), 0600) != 0) return PosixError(errno, "making", ends);
  // For writing too: the script does not wait for a reader.
  UniqueFd fd(open(ends.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return PosixError(errno, "opening", ends);
  return IllProgram(script, std::move(fd));
}

void IllProgram::Free() const { unlink((script_ + ".log.full").c_str()); }

std::vector<std::string> IllProgram::Noted(const std::string& what) const {
  std::vector<std::string> paths;
  std::ifstream log(script_ + ".log");
  for (std::string line; std::getline(log, line);) {
    if (absl::StartsWith(line, what + " ")) paths.push_back(line.substr(what.size() + 1));
  }
  return paths;
}

std::string IllProgram::failed() const {
  const std::vector<std::string> paths = Noted("failed");
  return paths.empty() ? "" : paths.front();
}

std::vector<std::string> IllProgram::synced_again() const { return Noted("again"); }

bool IllProgram::first_life_ended() const {
  pollfd wait = {ends_.get(), POLLIN, 0};
  return poll(&wait, 1, 0) == 1;
}

absl::StatusOr<int> IllProgram::AwaitFirstEnd() const {
  pollfd wait = {ends_.get(), POLLIN, 0};
  char text[16] = {};
  if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(Patience(absl::Seconds(30))))) != 1 ||
      read(ends_.get(), text, sizeof text - 1) <= 0) {
    return absl::DeadlineExceededError(script_ + ": its first life goes on");
  }
  return std::atoi(text);
}

}  // namespace studio
