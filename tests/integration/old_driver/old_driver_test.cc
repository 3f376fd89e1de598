// A worker beside a driver that is too old says which LibTorch that driver runs: in --probe, and when it starts.
#include <poll.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/env/posix_launcher.h"
#include "common/platform/driver_advice.h"
#include "common/status/testing.h"
#include "common/time/patience.h"

namespace studio {
namespace {

using testing::HasSubstr;

#if defined(__aarch64__)
constexpr v1::Arch kArch = v1::ARM64;
#else
constexpr v1::Arch kArch = v1::X86_64;
#endif

LaunchSpec Worker(std::vector<std::string> arguments) {
  LaunchSpec spec;
  spec.argv = {"worker/agent/studio-worker", "--trainer", "worker/trainer/studio-trainer", "--dataprep",
               "worker/data/studio-dataprep"};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.environment = EnvironmentWith(
      {absl::StrCat("LD_LIBRARY_PATH=", std::filesystem::absolute("tests/integration/old_driver").string())});
  return spec;
}

TEST(OldDriver, TheProbeNamesTheLibtorchThatItRuns) {
  PosixLauncher launcher;
  ASSERT_OK_AND_ASSIGN(const std::string text, RunForOutput(launcher, Worker({"--probe"})));
  EXPECT_THAT(text, HasSubstr("an NVIDIA driver for CUDA 12.8 is here, but this trainer sees no card by it"));
  // Another advice where the tests run with the older LibTorch already.
  EXPECT_THAT(text, HasSubstr(DriverAdvice(kArch, "12.8", STUDIO_LIBTORCH_CUDA)));
}

TEST(OldDriver, AStartingWorkerSaysIt) {
  PosixLauncher launcher;
  LaunchSpec spec = Worker({"--controller", "127.0.0.1:1", "--state-dir", testing::TempDir() + "/worker"});
  spec.output = LaunchSpec::Output::kPipeBoth;
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Process> worker, launcher.Launch(spec));
  std::string log;
  while (!absl::StrContains(log, "an NVIDIA driver for CUDA 12.8")) {
    pollfd wait = {worker->output(), POLLIN, 0};
    ASSERT_GT(poll(&wait, 1, absl::ToInt64Milliseconds(Patience(absl::Minutes(2)))), 0) << log;
    char buffer[4096];
    const ssize_t count = read(worker->output(), buffer, sizeof buffer);
    ASSERT_GT(count, 0) << log;
    log.append(buffer, count);
  }
}

}  // namespace
}  // namespace studio
