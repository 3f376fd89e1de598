#include "worker/agent/kill_watch.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace studio::worker {
namespace {

int64_t CountIn(Env& env, const std::string& path) {
  const absl::StatusOr<std::string> text = env.ReadFile(path);
  return text.ok() ? OomKillCount(*text) : 0;
}

// Each read of the kernel's log gives one record; more than this has none.
constexpr size_t kRecordBytes = 8 << 10;

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

KillWatch::KillWatch(Env& env, const std::string& kernel_log)
    : env_(env), kills_before_(CountOomKills(env)), log_(open(kernel_log.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (log_.valid()) lseek(log_.get(), 0, SEEK_END);
}

KillWatch::Signs KillWatch::Look(int pid) {
  char record[kRecordBytes];
  while (log_.valid()) {
    const ssize_t got = read(log_.get(), record, sizeof record);
    // EPIPE: records were overwritten before they were read; the next read gives the oldest that is left.
    if (got < 0 && (errno == EPIPE || errno == EINTR)) continue;
    if (got <= 0) break;
    said_.append(record, got);
  }
  return {CountOomKills(env_) > kills_before_, FindKill(said_, pid)};
}

}  // namespace studio::worker
