#include "worker/trainer/status/failure.h"

#include "common/status/testing.h"
#include "worker/trainer/status/oom_text.h"

namespace studio {
namespace {

TEST(OomOf, KnowsTheTextsOfEveryLibrary) {
  for (const char* text : {"CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB",
                           "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
                           "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                           "cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "Cuda failure 2 'out of memory'",
                           "Failed to CUDA malloc 4194304 bytes", "MPS backend out of memory (MPS allocated: 9.05 GB",
                           "MPSGraph failed to allocate 1024 bytes", "Invalid buffer size: 20.00 GiB",
                           "NVML_SUCCESS == r INTERNAL ASSERT FAILED at \"CUDACachingAllocator.cpp\":1090"}) {
    EXPECT_EQ(OomOf(text), Oom::kDevice) << text;
  }
  for (const char* text : {"[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
                           "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes", "std::bad_alloc"}) {
    EXPECT_EQ(OomOf(text), Oom::kHost) << text;
  }
  for (const char* text : {"", "CUDA error: an illegal memory access was encountered", "out of range", "disk full"}) {
    EXPECT_EQ(OomOf(text), Oom::kNone) << text;
  }
}

TEST(ReasonOf, ReadsTheMessageBeforeTheCode) {
  const absl::Status device = absl::ResourceExhaustedError("CUDA out of memory. Tried to allocate 2 GiB");
  EXPECT_EQ(ReasonOf(device), v1::DEVICE_OOM);
  EXPECT_EQ(ExitCode(ReasonOf(device)), 71);
  EXPECT_EQ(ExitCode(ReasonOf(absl::InternalError("std::bad_alloc"))), 72);
  EXPECT_EQ(ReasonOf(absl::ResourceExhaustedError("/out/x: no space left on device")), v1::STORAGE);
  EXPECT_EQ(ExitCode(ReasonOf(absl::InvalidArgumentError("config.json: not JSON"))), 65);
  EXPECT_EQ(ExitCode(ReasonOf(absl::InternalError("index out of range"))), 70);
  EXPECT_EQ(ExitCode(ReasonOf(absl::OkStatus())), 0);
}

TEST(FailureError, KeepsItsReasonThroughContext) {
  const absl::Status status = WithContext(FailureError(v1::DIVERGED, "the loss is nan"), "step 7: ");
  EXPECT_EQ(ReasonOf(status), v1::DIVERGED);
  EXPECT_EQ(status.message(), "step 7: the loss is nan");
}

}  // namespace
}  // namespace studio
