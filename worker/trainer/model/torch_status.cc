#include "worker/trainer/model/torch_status.h"

#include <c10/util/Exception.h>

#include <new>
#include <string>

namespace studio {
namespace {

// What each allocator says when it has nothing left (the texts of CUDA, cuBLAS, cuDNN, NCCL, MPS and the CPU).
bool SaysOutOfMemory(const std::string& text) {
  for (const char* part : {"out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
                           "can't allocate memory", "not enough memory", "failed to allocate", "Invalid buffer size:",
                           "Failed to CUDA malloc", "NVML_SUCCESS == r INTERNAL ASSERT FAILED"}) {
    if (text.find(part) != std::string::npos) return true;
  }
  return false;
}

// The first line: LibTorch adds a stack.
std::string FirstLine(const char* text) {
  const std::string all(text);
  return all.substr(0, all.find('\n'));
}

}  // namespace

absl::Status CatchTorchStatus(absl::FunctionRef<void()> body) {
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string text;
  try {
    body();
  } catch (const c10::OutOfMemoryError& error) {
    code = absl::StatusCode::kResourceExhausted;
    text = FirstLine(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    code = absl::StatusCode::kResourceExhausted;
    text = "the host has no memory left (std::bad_alloc)";
  } catch (const c10::Error& error) {
    text = FirstLine(error.what_without_backtrace());
    code = SaysOutOfMemory(error.what_without_backtrace()) ? absl::StatusCode::kResourceExhausted
                                                           : absl::StatusCode::kInternal;
  } catch (const std::exception& error) {
    text = FirstLine(error.what());
    code = SaysOutOfMemory(error.what()) ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal;
  }
  return code == absl::StatusCode::kOk ? absl::OkStatus() : absl::Status(code, text);
}

}  // namespace studio
