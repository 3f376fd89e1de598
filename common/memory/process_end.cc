#include "common/memory/process_end.h"

#include <signal.h>

namespace studio {
namespace {

constexpr int kShellOffset = 128;

Oom OomOfKill(const ProcessLeftovers& left) {
  if (left.kernel_kill) {
    // The kernel takes the largest when nobody has any left: one that held less than half of it was not the cause.
    const bool small = left.kernel_kill->whole_machine && left.kernel_kill->resident_bytes > 0 &&
                       left.kernel_kill->resident_bytes < left.host_memory_bytes / 2;
    return small ? Oom::kHostHeldByOthers : Oom::kHost;
  }
  return left.cgroup_kills_rose ? Oom::kHost : Oom::kNone;
}

}  // namespace

Oom OomOfEnd(const ProcessLeftovers& left) {
  const int signal = left.signal != 0 || left.exit_code <= kShellOffset ? left.signal : left.exit_code - kShellOffset;
  if (signal == SIGKILL) return OomOfKill(left);
  if (signal == SIGABRT) return OomOf(left.last_words);
  if (signal != 0) return Oom::kNone;
  switch (left.exit_code) {
    case 0:
    case kExitBadInput:
    case kExitCrash:
      return Oom::kNone;
    case kExitDeviceOom:
      return OomOf(left.last_words) == Oom::kCollective ? Oom::kCollective : Oom::kDevice;
    case kExitHostOom:
      return Oom::kHost;
    default:
      return OomOf(left.last_words);
  }
}

}  // namespace studio
