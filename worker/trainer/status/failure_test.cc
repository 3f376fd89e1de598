#include "worker/trainer/status/failure.h"

#include "common/status/testing.h"

namespace studio {
namespace {

TEST(ReasonOf, ReadsTheMessageBeforeTheCode) {
  const absl::Status device = absl::ResourceExhaustedError("CUDA out of memory. Tried to allocate 2 GiB");
  EXPECT_EQ(ReasonOf(device), v1::DEVICE_OOM);
  EXPECT_EQ(ExitCode(ReasonOf(device)), 71);
  EXPECT_EQ(ExitCode(ReasonOf(absl::InternalError("std::bad_alloc"))), 72);
  EXPECT_EQ(ReasonOf(absl::InternalError("Cuda failure 2 'out of memory'")), v1::DEVICE_OOM);
  EXPECT_EQ(ReasonOf(absl::InternalError("CUDA error: an illegal memory access was encountered")), v1::CRASH);
  EXPECT_EQ(ReasonOf(absl::ResourceExhaustedError("/out/x: no space left on device")), v1::STORAGE);
  EXPECT_EQ(ExitCode(ReasonOf(absl::InvalidArgumentError("config.json: not JSON"))), 65);
  EXPECT_EQ(ExitCode(ReasonOf(absl::InternalError("index out of range"))), 70);
  EXPECT_EQ(ExitCode(ReasonOf(absl::OkStatus())), 0);
}

TEST(Explained, SaysWhatCanBeDoneAboutMemory) {
  EXPECT_THAT(Explained(absl::ResourceExhaustedError("CUDA out of memory. Tried to allocate 2 GiB")),
              testing::MatchesRegex("CUDA out of memory. Tried to allocate 2 GiB; .*training.batch_size.*"));
  EXPECT_EQ(Explained(absl::InternalError("index out of range")), "index out of range");
}

TEST(FailureError, KeepsItsReasonThroughContext) {
  const absl::Status status = WithContext(FailureError(v1::DIVERGED, "the loss is nan"), "step 7: ");
  EXPECT_EQ(ReasonOf(status), v1::DIVERGED);
  EXPECT_EQ(status.message(), "step 7: the loss is nan");
}

}  // namespace
}  // namespace studio
