#include "worker/agent/oom_kills.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace studio::worker {
namespace {

// The number beside "oom_kill", which cgroup v2 writes in memory.events and v1 in memory.oom_control.
int64_t CountIn(Env& env, const std::string& path) {
  const absl::StatusOr<std::string> text = env.ReadFile(path);
  if (!text.ok()) return 0;
  for (const absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    int64_t count = 0;
    if (words.size() == 2 && words[0] == "oom_kill" && absl::SimpleAtoi(words[1], &count)) return count;
  }
  return 0;
}

}  // namespace

int64_t CountOomKills(Env& env) {
  const absl::StatusOr<std::string> cgroups = env.ReadFile("/proc/self/cgroup");
  if (!cgroups.ok()) return 0;
  int64_t count = 0;
  // hierarchy:controllers:path; v2 has "0::/path". Inside a container's namespace the path is "/".
  for (const absl::string_view line : absl::StrSplit(*cgroups, '\n')) {
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    const std::string path = parts[2] == "/" ? "" : parts[2];
    if (parts[1].empty()) count += CountIn(env, absl::StrCat("/sys/fs/cgroup", path, "/memory.events"));
    for (const absl::string_view controller : absl::StrSplit(parts[1], ',')) {
      if (controller == "memory")
        count += CountIn(env, absl::StrCat("/sys/fs/cgroup/memory", path, "/memory.oom_control"));
    }
  }
  return count;
}

}  // namespace studio::worker
