#include "worker/agent/oom_kills.h"

#include "common/env/memory_env.h"
#include "common/status/testing.h"

namespace studio::worker {
namespace {

class OomKillsTest : public testing::Test {
 protected:
  void Put(const std::string& folder, const std::string& name, const std::string& text) {
    ASSERT_OK(env_.MakeFolders(folder));
    ASSERT_OK(env_.WriteFile(folder + "/" + name, text));
  }
  MemoryEnv env_;
};

TEST_F(OomKillsTest, ReadsVersionTwo) {
  Put("/proc/self", "cgroup", "0::/system.slice/studio.service\n");
  Put("/sys/fs/cgroup/system.slice/studio.service", "memory.events", "low 0\nhigh 4\noom 3\noom_kill 2\n");
  EXPECT_EQ(CountOomKills(env_), 2);
}

TEST_F(OomKillsTest, ReadsVersionOneAmongItsManyControllers) {
  Put("/proc/self", "cgroup", "12:cpu,cpuacct:/docker/ab\n7:hugetlb,memory:/docker/ab\n1:name=systemd:/x:y\n");
  Put("/sys/fs/cgroup/memory/docker/ab", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
  EXPECT_EQ(CountOomKills(env_), 5);
}

TEST_F(OomKillsTest, InsideAContainerThePathIsTheRoot) {
  Put("/proc/self", "cgroup", "0::/\n");
  Put("/sys/fs/cgroup", "memory.events", "oom_kill 1\n");
  EXPECT_EQ(CountOomKills(env_), 1);
}

TEST_F(OomKillsTest, WhatCannotBeReadCountsNothing) {
  EXPECT_EQ(CountOomKills(env_), 0);
  Put("/proc/self", "cgroup", "garbage\n0::/gone\n");
  EXPECT_EQ(CountOomKills(env_), 0);
}

}  // namespace
}  // namespace studio::worker
