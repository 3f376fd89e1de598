#include "common/memory/kernel_kills.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace studio {
namespace {

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// "anon-rss:1234kB" in a line of the log. 0 where it lacks.
int64_t KibibytesAfter(absl::string_view line, absl::string_view key) {
  const size_t at = line.find(key);
  if (at == absl::string_view::npos) return 0;
  const absl::string_view rest = line.substr(at + key.size());
  int64_t value = 0;
  return absl::SimpleAtoi(rest.substr(0, rest.find_first_not_of("0123456789")), &value) ? value * 1024 : 0;
}

}  // namespace

int64_t OomKillCount(std::string_view events) {
  for (const absl::string_view line : absl::StrSplit(View(events), '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    int64_t count = 0;
    if (words.size() == 2 && words[0] == "oom_kill" && absl::SimpleAtoi(words[1], &count)) return count;
  }
  return 0;
}

std::optional<KernelKill> FindKill(std::string_view kernel_log, int pid) {
  // Two lines tell of each kill; either is enough, as the log may be cut:
  //   oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/a,task=studio-trainer,pid=77,uid=0
  //   Memory cgroup out of memory: Killed process 77 (studio-trainer) total-vm:9kB, anon-rss:8kB, file-rss:1kB, …
  const std::string chosen = absl::StrCat(",pid=", pid, ",");
  const std::string killed = absl::StrCat("Killed process ", pid, " (");
  std::optional<KernelKill> found;
  for (const absl::string_view line : absl::StrSplit(View(kernel_log), '\n')) {
    if (absl::StrContains(line, "oom-kill:constraint=") && absl::StrContains(line, chosen)) {
      if (!found) found.emplace();
      found->whole_machine = !absl::StrContains(line, "CONSTRAINT_MEMCG");
    }
    if (absl::StrContains(line, killed) &&
        (absl::StrContains(line, "Out of memory: ") || absl::StrContains(line, "out of memory: "))) {
      if (!found) found.emplace();
      found->whole_machine = !absl::StrContains(line, "Memory cgroup");
      found->resident_bytes =
          KibibytesAfter(line, "anon-rss:") + KibibytesAfter(line, "file-rss:") + KibibytesAfter(line, "shmem-rss:");
    }
  }
  return found;
}

}  // namespace studio
