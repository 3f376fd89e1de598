#include "common/memory/process_end.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <string>

namespace studio {
namespace {

constexpr KernelKill kGroupKill{.whole_machine = false, .resident_bytes = int64_t{1} << 30};
constexpr KernelKill kMachineKillOfALargeOne{.whole_machine = true, .resident_bytes = int64_t{12} << 30};
constexpr KernelKill kMachineKillOfASmallOne{.whole_machine = true, .resident_bytes = int64_t{1} << 30};
constexpr KernelKill kMachineKillOfUnknownSize{.whole_machine = true, .resident_bytes = 0};
constexpr int64_t kHost = int64_t{16} << 30;

struct Row {
  const char* name;
  ProcessLeftovers left;
  Oom oom;
};

class OomOfEndTest : public testing::TestWithParam<Row> {};

TEST_P(OomOfEndTest, FollowsTheTable) { EXPECT_EQ(OomOfEnd(GetParam().left), GetParam().oom); }

INSTANTIATE_TEST_SUITE_P(
    Ends, OomOfEndTest,
    testing::Values(
        Row{"KilledAndTheGroupCounts", {.signal = SIGKILL, .cgroup_kills_rose = true}, Oom::kHost},
        Row{"KilledAndTheLogNamesIt",
            {.signal = SIGKILL, .kernel_kill = kGroupKill, .host_memory_bytes = kHost},
            Oom::kHost},
        Row{"KilledAsTheLargest",
            {.signal = SIGKILL, .kernel_kill = kMachineKillOfALargeOne, .host_memory_bytes = kHost},
            Oom::kHost},
        Row{"KilledForOthers",
            {.signal = SIGKILL, .kernel_kill = kMachineKillOfASmallOne, .host_memory_bytes = kHost},
            Oom::kHostHeldByOthers},
        Row{"KilledForOthersInALimitedGroup",
            {.signal = SIGKILL,
             .cgroup_kills_rose = true,
             .kernel_kill = kMachineKillOfASmallOne,
             .host_memory_bytes = kHost},
            Oom::kHostHeldByOthers},
        Row{"KilledWithSizesUnknown",
            {.signal = SIGKILL, .kernel_kill = kMachineKillOfUnknownSize, .host_memory_bytes = kHost},
            Oom::kHost},
        Row{"KilledOnAMachineOfUnknownSize", {.signal = SIGKILL, .kernel_kill = kMachineKillOfASmallOne}, Oom::kHost},
        Row{"KilledInAShell", {.exit_code = 137, .cgroup_kills_rose = true}, Oom::kHost},
        Row{"DeviceByItsOwnWord", {.exit_code = 71}, Oom::kDevice},
        Row{"HostByItsOwnWord", {.exit_code = 72}, Oom::kHost},
        Row{"CollectiveByItsOwnWord",
            {.exit_code = 71, .last_words = "Cuda failure 2 'out of memory'"},
            Oom::kCollective},
        Row{"TerminatedByBadAlloc",
            {.signal = SIGABRT, .last_words = "terminate called after throwing an instance of 'std::bad_alloc'"},
            Oom::kHost},
        Row{"AbortedInAShell", {.exit_code = 134, .last_words = "memory allocation of 64 bytes failed"}, Oom::kHost},
        Row{"EndedWithAnAllocatorsWords",
            {.exit_code = 1, .last_words = "CUDA out of memory. Tried to allocate 2.00 GiB"},
            Oom::kDevice},

        Row{"EndedWell", {}, Oom::kNone},
        Row{"EndedWellWhileOthersWereKilled", {.cgroup_kills_rose = true}, Oom::kNone},
        Row{"EndedWellThoughItSpokeOfMemory", {.last_words = "std::bad_alloc"}, Oom::kNone},
        Row{"KilledBySomebody", {.signal = SIGKILL}, Oom::kNone},
        Row{"KilledBySomebodyAfterSpeakingOfMemory", {.signal = SIGKILL, .last_words = "std::bad_alloc"}, Oom::kNone},
        Row{"KilledInAShellBySomebody", {.exit_code = 137}, Oom::kNone},
        Row{"Segfault", {.signal = SIGSEGV, .cgroup_kills_rose = true}, Oom::kNone},
        Row{"Terminated", {.signal = SIGTERM, .cgroup_kills_rose = true}, Oom::kNone},
        Row{"SegfaultInAShell", {.exit_code = 139, .last_words = "std::bad_alloc"}, Oom::kNone},
        Row{"Aborted", {.signal = SIGABRT, .cgroup_kills_rose = true}, Oom::kNone},
        Row{"AbortedOnACheck", {.signal = SIGABRT, .last_words = "check failed: index < size"}, Oom::kNone},
        Row{"BadInput", {.exit_code = 65, .cgroup_kills_rose = true}, Oom::kNone},
        Row{"Crash",
            {.exit_code = 70, .last_words = "CUDA error: an illegal memory access was encountered"},
            Oom::kNone},
        Row{"CrashByItsOwnWordThoughAWarningSpokeOfMemory",
            {.exit_code = 70, .last_words = "std::bad_alloc"},
            Oom::kNone},
        Row{"Usage", {.exit_code = 2}, Oom::kNone}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace studio
