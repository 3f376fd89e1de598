#include "common/env/process.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "common/env/file_lock.h"
#include "common/env/posix_launcher.h"
#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;

LaunchSpec Shell(const std::string& script) {
  return {.argv = {"/bin/sh", "-c", script}, .environment = {"PATH=/usr/bin:/bin"}};
}

void Await(int fd) {
  pollfd wait = {fd, POLLIN, 0};
  ASSERT_EQ(poll(&wait, 1, 30'000), 1) << "nothing happened in 30 seconds";
}

// Blocks until `fd` holds something, then reads it.
std::string ReadSome(int fd) {
  Await(fd);
  char buffer[1000];
  const ssize_t got = read(fd, buffer, sizeof buffer);
  return std::string(buffer, got < 0 ? 0 : got);
}

ProcessEnd AwaitEnd(Process& process) {
  Await(process.ended());
  return process.Reap().value_or(ProcessEnd{-1, -1});
}

class ProcessTest : public testing::Test {
 protected:
  PosixLauncher launcher_;
};

TEST_F(ProcessTest, ReportsExitCodeAndSignal) {
  ASSERT_OK_AND_ASSIGN(const auto good, launcher_.Launch(Shell("exit 71")));
  EXPECT_EQ(AwaitEnd(*good), (ProcessEnd{71, 0}));
  EXPECT_EQ(good->Reap(), (ProcessEnd{71, 0})) << "asked again";
  ASSERT_OK_AND_ASSIGN(const auto killed, launcher_.Launch(Shell("kill -SEGV $$")));
  EXPECT_EQ(AwaitEnd(*killed), (ProcessEnd{0, SIGSEGV}));
}

TEST_F(ProcessTest, IsNotReapedWhileItRuns) {
  LaunchSpec spec = Shell("read line <&3; exit 5");
  spec.channel = true;
  ASSERT_OK_AND_ASSIGN(const auto process, launcher_.Launch(spec));
  EXPECT_EQ(process->Reap(), std::nullopt);
  ASSERT_EQ(write(process->channel(), "go\n", 3), 3);
  EXPECT_EQ(AwaitEnd(*process), (ProcessEnd{5, 0}));
}

TEST_F(ProcessTest, TheChannelGoesBothWays) {
  LaunchSpec spec = Shell("read line <&3; echo got $line >&3");
  spec.channel = true;
  ASSERT_OK_AND_ASSIGN(const auto process, launcher_.Launch(spec));
  ASSERT_EQ(write(process->channel(), "hello\n", 6), 6);
  EXPECT_EQ(ReadSome(process->channel()), "got hello\n");
}

TEST_F(ProcessTest, SeesTheEndOfTheChannelWhenItsOwnerGoes) {
  LaunchSpec spec = Shell("cat <&3 >/dev/null");
  spec.channel = true;
  ASSERT_OK_AND_ASSIGN(const auto process, launcher_.Launch(spec));
  shutdown(process->channel(), SHUT_WR);
  EXPECT_EQ(AwaitEnd(*process), (ProcessEnd{0, 0}));
}

TEST_F(ProcessTest, PrintsBothStreamsIntoOnePipe) {
  LaunchSpec spec = Shell("printf out; printf err >&2");
  spec.output = LaunchSpec::Output::kPipeBoth;
  ASSERT_OK_AND_ASSIGN(const auto process, launcher_.Launch(spec));
  AwaitEnd(*process);
  EXPECT_EQ(ReadSome(process->output()), "outerr");
}

TEST_F(ProcessTest, KillReachesTheChildrenToo) {
  const std::string path = testing::TempDir() + "group.lock";
  ASSERT_OK_AND_ASSIGN(FileLock lock, FileLock::Acquire(path));
  LaunchSpec spec = Shell("sleep 1000 & echo ready; wait");
  spec.output = LaunchSpec::Output::kPipe;
  spec.inherited = {{lock.fd(), 4}};
  ASSERT_OK_AND_ASSIGN(const auto process, launcher_.Launch(spec));
  EXPECT_EQ(ReadSome(process->output()), "ready\n");
  { FileLock ours = std::move(lock); }
  EXPECT_THAT(FileLock::TryAcquire(path), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("group.lock")));
  process->Kill(SIGKILL);
  EXPECT_EQ(AwaitEnd(*process), (ProcessEnd{0, SIGKILL}));
  EXPECT_OK(FileLock::Acquire(path)) << "would hang while a grandchild lives";
}

TEST_F(ProcessTest, LeavesNoOrphanWhenTheLeaderEndsFirst) {
  const std::string path = testing::TempDir() + "orphan.lock";
  ASSERT_OK_AND_ASSIGN(FileLock lock, FileLock::Acquire(path));
  LaunchSpec spec = Shell("sleep 1000 & exit 0");
  spec.inherited = {{lock.fd(), 4}};
  ASSERT_OK_AND_ASSIGN(const auto process, launcher_.Launch(spec));
  { FileLock ours = std::move(lock); }
  EXPECT_EQ(AwaitEnd(*process), (ProcessEnd{0, 0}));
  EXPECT_OK(FileLock::Acquire(path));
}

TEST_F(ProcessTest, AChildGetsNoDescriptorByChance) {
  LaunchSpec spec = Shell("ls /proc/self/fd");
  spec.channel = true;
  ASSERT_OK_AND_ASSIGN(const auto other, launcher_.Launch(spec));
  ASSERT_OK_AND_ASSIGN(const std::string fds, RunForOutput(launcher_, Shell("ls /proc/self/fd | tr '\\n' ' '")));
  EXPECT_EQ(fds, "0 1 2 3 ") << "3 is ls reading the folder";
}

TEST_F(ProcessTest, StartsWithDefaultSignalsAndGivenEnvironment) {
  signal(SIGPIPE, SIG_IGN);
  LaunchSpec spec = Shell("kill -PIPE $$");
  ASSERT_OK_AND_ASSIGN(const auto process, launcher_.Launch(spec));
  EXPECT_EQ(AwaitEnd(*process), (ProcessEnd{0, SIGPIPE}));

  setenv("STUDIO_TEST_SHARED", "ours", 1);
  spec = Shell("echo $RANK $STUDIO_TEST_SHARED");
  spec.environment = EnvironmentWith({"RANK=3"});
  ASSERT_OK_AND_ASSIGN(const std::string printed, RunForOutput(launcher_, spec));
  EXPECT_EQ(printed, "3 ours\n");
}

TEST_F(ProcessTest, AProgramThatIsNotThereIsNotFound) {
  if (getenv("STUDIO_EMULATED") != nullptr) {
    GTEST_SKIP() << "the emulator forks where posix_spawn shares memory, so the child's error never comes back";
  }
  EXPECT_THAT(launcher_.Launch({.argv = {"/no/such/trainer"}}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("starting /no/such/trainer")));
}

TEST_F(ProcessTest, RunForOutputNamesTheBadEnd) {
  EXPECT_THAT(RunForOutput(launcher_, Shell("echo because; exit 3")),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("exit code 3: because")));
}

}  // namespace
}  // namespace studio
