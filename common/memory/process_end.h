// Whether a process ended for want of memory, and whose: from all that is left of it.
//
//   OomOfEnd({.signal = SIGKILL, .cgroup_kills_rose = true})   // Oom::kHost
//   OomOfEnd({.signal = SIGKILL})                              // Oom::kNone: somebody killed it
//   OomOfEnd({.exit_code = 71})                                // Oom::kDevice: the trainer's own word
//
// Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/memory/kernel_kills.h"
#include "common/memory/out_of_memory.h"

namespace studio {

// By which our processes say themselves why they ended, where they can (EX_DATAERR and EX_SOFTWARE of sysexits.h, and
// two of our own).
inline constexpr int kExitBadInput = 65;
inline constexpr int kExitCrash = 70;
inline constexpr int kExitDeviceOom = 71;
inline constexpr int kExitHostOom = 72;

struct ProcessLeftovers {
  int exit_code = 0;
  // 0: it ended by itself.
  int signal = 0;
  // The control group's count of kills for memory rose while it ran.
  bool cgroup_kills_rose = false;
  // The kernel's log names it.
  std::optional<KernelKill> kernel_kill = {};
  // The machine's memory. 0: not known.
  int64_t host_memory_bytes = 0;
  // The last lines that it printed.
  std::string_view last_words = {};
};

// SIGKILL counts only with the kernel's or the group's word for it. So does exit code 137, by which shells and
// container runtimes tell of it. An abort counts where the last words are an allocator's. A clean end is never out of
// memory.
Oom OomOfEnd(const ProcessLeftovers& left);

}  // namespace studio
