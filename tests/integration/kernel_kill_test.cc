// A trainer that the kernel kills for memory, in a control group with a limit: the real kernel, agent and controller.
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/status/testing.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

using testing::HasSubstr;

// A control group of version 1 or 2, gone with this.
class MemoryGroup {
 public:
  // Empty where the machine has none that this process may use.
  static std::unique_ptr<MemoryGroup> Create(int64_t limit_bytes) {
    for (const auto& [parent, file] :
         {std::pair{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, std::pair{"/sys/fs/cgroup", "memory.max"}}) {
      const std::string folder = absl::StrCat(parent, "/studio-test-", getpid());
      std::error_code error;
      if (!std::filesystem::create_directory(folder, error)) continue;
      std::unique_ptr<MemoryGroup> group(new MemoryGroup(folder));
      // Without swap the limit is one; where there is none, this file may lack.
      std::ofstream(folder + "/memory.swap.max") << 0 << std::flush;
      if (std::filesystem::exists(folder + "/" + file) &&
          (std::ofstream(folder + "/" + file) << limit_bytes << std::flush)) {
        return group;
      }
    }
    return nullptr;
  }
  ~MemoryGroup() {
    std::error_code ignored;  // a process that is still ending keeps it: no harm
    std::filesystem::remove(folder_, ignored);
  }
  std::string Processes() const { return folder_ + "/cgroup.procs"; }

 private:
  explicit MemoryGroup(std::string folder) : folder_(std::move(folder)) {}
  const std::string folder_;
};

TEST(KernelKill, IsOutOfMemoryAndIsRetriedWithHalfTheMicroBatch) {
  const std::unique_ptr<MemoryGroup> group = MemoryGroup::Create(int64_t{384} << 20);
  if (group == nullptr) GTEST_SKIP() << "needs a control group for memory that this user may make";
  const std::string folder = absl::StrCat(testing::TempDir(), "/kernel-kill");
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  Cluster cluster(folder, Cluster::Binaries{});
  ASSERT_OK(cluster.StartController());
  ASSERT_OK(
      cluster.StartWorker({"/bin/sh", "-c", absl::StrCat("echo $$ >", group->Processes(), " && exec \"$@\""), "-"}));
  ASSERT_OK_AND_ASSIGN(const std::string id, cluster.Submit({{"noop.fail", "eat memory"}, {"noop.fail_attempts", "1"}},
                                                            "training { batch_size: 8 grad_accumulation: 2 }"));
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, cluster.AwaitState(id, v1::SUCCEEDED));
  ASSERT_EQ(record.attempts_size(), 2) << record.ShortDebugString();
  const v1::Attempt& killed = record.attempts(0);
  EXPECT_EQ(killed.reason(), v1::HOST_OOM) << killed.ShortDebugString();
  EXPECT_EQ(killed.signal(), SIGKILL);
  EXPECT_THAT(killed.message(), HasSubstr("for want of memory"));
  EXPECT_EQ(record.attempts(1).plan().micro(), 4);
  EXPECT_EQ(record.attempts(1).plan().accumulation(), 4);
  EXPECT_EQ(record.attempts(1).plan().global(), killed.plan().global());
  EXPECT_EQ(record.attempts(1).plan().cause(), "HOST_OOM");
  cluster.KillWorker();
}

}  // namespace
}  // namespace studio
