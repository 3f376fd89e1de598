#include "common/memory/kernel_kills.h"

#include <gtest/gtest.h>

namespace studio {
namespace {

constexpr char kGroup[] =
    "6,800,5000,-;studio-trainer invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n"
    "6,801,5001,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,"
    "task_memcg=/a,task=studio-trainer,pid=77,uid=0\n"
    "3,802,5002,-;Memory cgroup out of memory: Killed process 77 (studio-trainer) total-vm:9000kB, anon-rss:4096kB, "
    "file-rss:1024kB, shmem-rss:0kB, UID:0 pgtables:72kB oom_score_adj:0\n";
constexpr char kMachine[] =
    "[ 5001.1] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,"
    "task=studio-trainer,pid=78,uid=0\n"
    "[ 5001.2] Out of memory: Killed process 78 (studio-trainer) total-vm:9000kB, anon-rss:2048kB, file-rss:0kB\n";

TEST(OomKillCount, ReadsBothVersions) {
  EXPECT_EQ(OomKillCount("low 0\nhigh 4\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n"), 2);
  EXPECT_EQ(OomKillCount("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), 5);
  for (const char* nothing : {"", "oom_kill", "oom_kill x\n", "oom 7\n", "oom_kill 1 2\n"}) {
    EXPECT_EQ(OomKillCount(nothing), 0) << nothing;
  }
}

TEST(FindKill, TellsTheGroupsLimitFromTheMachinesMemory) {
  const auto group = FindKill(kGroup, 77);
  ASSERT_TRUE(group);
  EXPECT_FALSE(group->whole_machine);
  EXPECT_EQ(group->resident_bytes, 5120 * 1024);
  const auto machine = FindKill(kMachine, 78);
  ASSERT_TRUE(machine);
  EXPECT_TRUE(machine->whole_machine);
  EXPECT_EQ(machine->resident_bytes, 2048 * 1024);
}

TEST(FindKill, EitherLineIsEnough) {
  const std::string_view text = kGroup;
  EXPECT_TRUE(FindKill(text.substr(0, text.rfind("3,802")), 77));
  EXPECT_TRUE(FindKill(text.substr(text.rfind("3,802")), 77));
}

TEST(FindKill, AnothersEndSaysNothingOfThisProcess) {
  for (const int pid : {7, 777, 1, 0}) EXPECT_FALSE(FindKill(kGroup, pid)) << pid;
  EXPECT_FALSE(FindKill("", 77));
  // Killed, but not for memory.
  EXPECT_FALSE(FindKill("audit: Killed process 77 (studio-trainer) by signal 9\n", 77));
  EXPECT_FALSE(FindKill("studio-trainer invoked oom-killer, pid=77, order=0\n", 77));
}

}  // namespace
}  // namespace studio
