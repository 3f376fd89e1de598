#include "worker/trainer/status/oom_text.h"

namespace studio {
namespace {

struct Pattern {
  std::string_view text;
  // Must appear as well; empty: nothing more.
  std::string_view also;
  Oom oom;
};

// By where the text comes from. A device's are looked for first: MPS says "failed to allocate" too.
constexpr Pattern kPatterns[] = {
    {"CUDA out of memory", "", Oom::kDevice},                        // the caching allocator
    {"CUDA error: out of memory", "", Oom::kDevice},                 // the CUDA API
    {"CUBLAS_STATUS_ALLOC_FAILED", "", Oom::kDevice},                // cuBLAS
    {"CUDNN_STATUS_ALLOC_FAILED", "", Oom::kDevice},                 // cuDNN
    {"Cuda failure 2 'out of memory'", "", Oom::kDevice},            // NCCL
    {"Failed to CUDA malloc", "", Oom::kDevice},                     // NCCL
    {"MPS backend out of memory", "", Oom::kDevice},                 // MPS
    {"Invalid buffer size", "", Oom::kDevice},                       // Metal's limit of one buffer
    {"MPS", "failed to allocate", Oom::kDevice},                     // MPS
    {"NVML_SUCCESS == r INTERNAL ASSERT FAILED", "", Oom::kDevice},  // MIG: the allocator's report of it fails
    {"DefaultCPUAllocator", "memory", Oom::kHost},                   // "can't allocate memory", "not enough memory"
    {"std::bad_alloc", "", Oom::kHost},
};

}  // namespace

Oom OomOf(std::string_view text) {
  for (const Pattern& pattern : kPatterns) {
    if (text.find(pattern.text) != text.npos && text.find(pattern.also) != text.npos) return pattern.oom;
  }
  return Oom::kNone;
}

}  // namespace studio
