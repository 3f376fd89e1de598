#include "worker/agent/identity.h"

#include "common/env/memory_env.h"
#include "common/status/testing.h"

namespace studio::worker {
namespace {

using testing::HasSubstr;

TEST(StartIdentity, KeepsTheIdAndCountsTheStarts) {
  MemoryEnv env;
  ASSERT_OK(env.MakeFolders("/state"));
  ASSERT_OK(env.MakeFolders("/proc/sys/kernel/random"));
  ASSERT_OK(env.WriteFile("/proc/sys/kernel/random/boot_id", "b00t\n"));
  ASSERT_OK_AND_ASSIGN(const Identity first, StartIdentity(env, "/state", "gh200-3", 0xabc));
  EXPECT_EQ(first.worker_id, "gh200-3-00000abc");
  EXPECT_EQ(first.incarnation, 1);
  EXPECT_EQ(first.boot_id, "b00t");
  env.Crash();
  ASSERT_OK_AND_ASSIGN(const Identity second, StartIdentity(env, "/state", "renamed", 0xdef));
  EXPECT_EQ(second.worker_id, first.worker_id);
  EXPECT_EQ(second.incarnation, 2);
}

TEST(StartIdentity, AFileThatMakesNoSenseIsNotOverwritten) {
  MemoryEnv env;
  ASSERT_OK(env.MakeFolders("/state"));
  ASSERT_OK(env.WriteFile("/state/worker", "what is this"));
  EXPECT_THAT(StartIdentity(env, "/state", "host", 1),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("/state/worker")));
}

}  // namespace
}  // namespace studio::worker
