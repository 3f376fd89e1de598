#include "common/env/failpoint.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace studio {
namespace {

struct Wanted {
  std::string name;
  std::atomic<int> passes_left = 1;
};

// Read once, before anything could change the environment.
Wanted& TheWanted() {
  static Wanted& wanted = *new Wanted();
  static const bool read = [] {
    const char* value = std::getenv("STUDIO_FAILPOINTS");
    wanted.name = value != nullptr ? value : "";
    const size_t at = wanted.name.find('@');
    if (at != std::string::npos) {
      wanted.passes_left = std::atoi(wanted.name.c_str() + at + 1);
      wanted.name.resize(at);
    }
    return true;
  }();
  (void)read;
  return wanted;
}

}  // namespace

bool FailpointsSet() { return !TheWanted().name.empty(); }

void Failpoint(std::string_view name) {
  Wanted& wanted = TheWanted();
  if (wanted.name == "show") {
    const std::string line = "failpoint " + std::string(name) + "\n";
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  }
  if (wanted.name != name || wanted.passes_left.fetch_sub(1) != 1) return;
  kill(getpid(), SIGKILL);
  for (;;) pause();  // until the signal arrives
}

}  // namespace studio
