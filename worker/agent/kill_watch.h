// Whether the kernel killed a process for memory: what its control group counts and its log says, since this was made.
//
//   KillWatch watch(env);                    // before the launch
//   … the process ends …
//   if (watch.Look(pid).kernel_kill) …       // the log names it
//
// Threading: belongs to one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/env/env.h"
#include "common/env/unique_fd.h"
#include "common/memory/kernel_kills.h"

namespace studio::worker {

// How often the kernel killed for memory in this process's cgroup, which ranks share. 0 where no cgroup counts. Never
// fails: a count that cannot be read proves nothing.
int64_t CountOomKills(Env& env);

class KillWatch {
 public:
  struct Signs {
    bool cgroup_kills_rose = false;
    // Empty also where this process may not read the log.
    std::optional<KernelKill> kernel_kill;
  };

  // `kernel_log`: read from its end on.
  explicit KillWatch(Env& env, const std::string& kernel_log = "/dev/kmsg");

  Signs Look(int pid);

 private:
  Env& env_;
  const int64_t kills_before_;
  UniqueFd log_;
  // What the log said since. A machine that kills much says some kilobytes.
  std::string said_;
};

}  // namespace studio::worker
