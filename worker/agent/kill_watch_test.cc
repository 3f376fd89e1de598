#include "worker/agent/kill_watch.h"

#include <filesystem>
#include <fstream>

#include "common/env/memory_env.h"
#include "common/status/testing.h"

namespace studio::worker {
namespace {

class KillWatchTest : public testing::Test {
 protected:
  void Put(const std::string& folder, const std::string& name, const std::string& text) {
    ASSERT_OK(env_.MakeFolders(folder));
    ASSERT_OK(env_.WriteFile(folder + "/" + name, text));
  }
  MemoryEnv env_;
};

TEST_F(KillWatchTest, ReadsVersionTwo) {
  Put("/proc/self", "cgroup", "0::/system.slice/studio.service\n");
  Put("/sys/fs/cgroup/system.slice/studio.service", "memory.events", "low 0\nhigh 4\noom 3\noom_kill 2\n");
  EXPECT_EQ(CountOomKills(env_), 2);
}

TEST_F(KillWatchTest, ReadsVersionOneAmongItsManyControllers) {
  Put("/proc/self", "cgroup", "12:cpu,cpuacct:/docker/ab\n7:hugetlb,memory:/docker/ab\n1:name=systemd:/x:y\n");
  Put("/sys/fs/cgroup/memory/docker/ab", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
  EXPECT_EQ(CountOomKills(env_), 5);
}

TEST_F(KillWatchTest, InsideAContainerThePathIsTheRoot) {
  Put("/proc/self", "cgroup", "0::/\n");
  Put("/sys/fs/cgroup", "memory.events", "oom_kill 1\n");
  EXPECT_EQ(CountOomKills(env_), 1);
}

TEST_F(KillWatchTest, WhatCannotBeReadCountsNothing) {
  EXPECT_EQ(CountOomKills(env_), 0);
  Put("/proc/self", "cgroup", "garbage\n0::/gone\n");
  EXPECT_EQ(CountOomKills(env_), 0);
}

TEST_F(KillWatchTest, TheWatchTellsWhatCameSinceItWasMade) {
  const std::string log = testing::TempDir() + "/kmsg";
  std::filesystem::remove(log);
  std::ofstream out(log, std::ios::app);
  out << "3,1,1,-;Out of memory: Killed process 7 (a) total-vm:9kB, anon-rss:4kB\n" << std::flush;
  Put("/proc/self", "cgroup", "0::/\n");
  Put("/sys/fs/cgroup", "memory.events", "oom_kill 1\n");
  KillWatch watch(env_, log);
  EXPECT_FALSE(watch.Look(7).cgroup_kills_rose);
  EXPECT_FALSE(watch.Look(7).kernel_kill) << "an earlier process of the same number";

  out << "3,2,2,-;Out of memory: Killed process 8 (b) total-vm:9kB, anon-rss:4kB\n" << std::flush;
  Put("/sys/fs/cgroup", "memory.events", "oom_kill 2\n");
  EXPECT_TRUE(watch.Look(8).kernel_kill);
  EXPECT_TRUE(watch.Look(8).kernel_kill) << "asked again";
  EXPECT_FALSE(watch.Look(7).kernel_kill);
  EXPECT_TRUE(watch.Look(8).cgroup_kills_rose);
}

TEST_F(KillWatchTest, ALogThatCannotBeReadSaysNothing) {
  KillWatch watch(env_, testing::TempDir() + "/no-such-log");
  EXPECT_FALSE(watch.Look(8).kernel_kill);
}

}  // namespace
}  // namespace studio::worker
