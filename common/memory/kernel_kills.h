// What Linux leaves behind when it kills for memory: a count in the control group, and lines in its log.
//
//   OomKillCount("oom 3\noom_kill 2\n")                                   // 2
//   FindKill("… Out of memory: Killed process 77 (studio-trainer) …", 77)  // it was the machine's memory
//
// Pure: who reads the files is in worker/agent. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace studio {

// The number beside "oom_kill", which cgroup v2 writes in memory.events and v1 in memory.oom_control. 0 where it lacks.
int64_t OomKillCount(std::string_view events);

struct KernelKill {
  // The machine had no memory left; false: a control group reached its limit.
  bool whole_machine = false;
  // What the process held. 0 where the log does not say.
  int64_t resident_bytes = 0;
};

// The log's word that it killed the process for memory. Other processes' ends say nothing of this one.
std::optional<KernelKill> FindKill(std::string_view kernel_log, int pid);

}  // namespace studio
