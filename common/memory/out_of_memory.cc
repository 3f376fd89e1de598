#include "common/memory/out_of_memory.h"

#include <new>
#include <string>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "common/memory/cuda_report.h"

namespace studio {
namespace {

enum Source { kCuda, kCudnn, kNccl, kMps, kCpu };

struct Pattern {
  Source source;
  // Lower case; both must appear.
  absl::string_view text;
  absl::string_view also = "";
};

// By where the text comes from, as LibTorch 2.7 to 2.15 and the libraries below it write them. No pattern is a mere
// "out of memory": XNNPACK warns with those words that it goes on without itself, and prompts hold them.
constexpr Pattern kPatterns[] = {
    {kNccl, "cuda failure", "'out of memory'"},  // "Cuda failure 2 'out of memory'"; before NCCL 2.19 without the 2
    {kNccl, "failed to cuda malloc"},
    {kNccl, "failed to cuda host alloc"},
    {kCuda, "cuda out of memory. tried to allocate"},     // c10's caching allocator
    {kCuda, "cuda out of memory"},                        // others that speak like it
    {kCuda, "cuda error: out of memory"},                 // the runtime's own, by c10
    {kCuda, "cudaerrormemoryallocation"},                 // its name
    {kCuda, "cuda_error_out_of_memory"},                  // the driver's name
    {kCuda, "cublas_status_alloc_failed"},                //
    {kCuda, "nvml_success == r internal assert failed"},  // MIG: the allocator's report of it fails (accelerate#3803)
    {kCudnn, "cudnn_status_alloc_failed"},                // until cuDNN 8
    {kCudnn, "cudnn_status_internal_error_device_allocation_failed"},  // since cuDNN 9
    {kCudnn, "cudnn error: cudnn_status_not_supported"},
    {kMps, "mps backend out of memory"},
    {kMps, "mps", "failed to allocate"},
    {kMps, "invalid buffer size: "},  // Metal's limit of one buffer
    {kCpu, "cudnn_status_internal_error_host_allocation_failed"},
    {kCpu, "defaultcpuallocator: can't allocate memory"},
    {kCpu, "defaultcpuallocator: not enough memory"},  // Windows's, and before LibTorch 1.5
    {kCpu, "std::bad_alloc"},
    {kCpu, "unable to mmap", "cannot allocate memory"},  // c10's MapAllocator
    {kCpu, "cannot allocate memory"},                    // strerror(ENOMEM), by whoever passes it on
    {kCpu, "memory allocation of ", " bytes failed"},    // Rust's abort
    {kCpu, "malloc of size ", " failed"},                // Arrow
};

std::string Lower(std::string_view text) { return absl::AsciiStrToLower(absl::string_view(text.data(), text.size())); }

bool Matches(const Pattern& pattern, const std::string& lower) {
  return absl::StrContains(lower, pattern.text) && absl::StrContains(lower, pattern.also);
}

const Pattern* Find(const std::string& lower) {
  for (const Pattern& pattern : kPatterns) {
    if (Matches(pattern, lower)) return &pattern;
  }
  return nullptr;
}

bool HasSource(std::string_view text, Source source) {
  const std::string lower = Lower(text);
  for (const Pattern& pattern : kPatterns) {
    if (pattern.source == source && Matches(pattern, lower)) return true;
  }
  return false;
}

}  // namespace

Oom OomOf(std::string_view text) {
  const Pattern* const pattern = Find(Lower(text));
  if (pattern == nullptr) return Oom::kNone;
  switch (pattern->source) {
    case kNccl:
      return Oom::kCollective;
    case kCpu:
      return Oom::kHost;
    case kCuda:
      return FitsWithoutOthers(text) ? Oom::kDeviceHeldByOthers : Oom::kDevice;
    case kCudnn:
    case kMps:
      break;
  }
  return Oom::kDevice;
}

Oom OomOf(const std::exception& error) {
  // A negative size is a bug, and derives from bad_alloc all the same.
  if (dynamic_cast<const std::bad_array_new_length*>(&error) != nullptr) return Oom::kNone;
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) return Oom::kHost;
  if (const auto* system = dynamic_cast<const std::system_error*>(&error)) {
    if (system->code() == std::errc::not_enough_memory) return Oom::kHost;
  }
  const char* const text = error.what();
  return text == nullptr ? Oom::kNone : OomOf(std::string_view(text));
}

bool IsCudaOutOfMemory(std::string_view text) {
  return HasSource(text, kCuda) || HasSource(text, kCudnn) || HasSource(text, kNccl);
}
bool IsMpsOutOfMemory(std::string_view text) { return HasSource(text, kMps); }
bool IsCpuOutOfMemory(std::string_view text) { return HasSource(text, kCpu); }
bool IsCudnnOutOfMemory(std::string_view text) { return HasSource(text, kCudnn); }

bool IsOutOfMemory(std::string_view text) { return OomOf(text) != Oom::kNone; }
bool IsOutOfMemory(const std::exception& error) { return OomOf(error) != Oom::kNone; }

std::string_view OomRemedy(Oom oom) {
  switch (oom) {
    case Oom::kNone:
      return "";
    case Oom::kDevice:
      return "set a smaller training.batch_size (and a larger grad_accumulation), "
             "architecture.gradient_checkpointing: true or a smaller tokenizer.max_length, or ask for more "
             "resources.device_memory_bytes";
    case Oom::kHost:
      return "set a smaller training.batch_size (and a larger grad_accumulation), or give the worker more memory";
    case Oom::kCollective:
      return "the collective library had no memory left beside the model: set a smaller training.batch_size (and a "
             "larger grad_accumulation)";
    case Oom::kDeviceHeldByOthers:
      return "other processes hold the memory of the device that it lacked: end them, or ask for another device by "
             "resources.device_kind";
    case Oom::kHostHeldByOthers:
      return "other processes hold the memory of the machine that it lacked: end them, or give the worker a machine of "
             "its own";
  }
  return "";
}

}  // namespace studio
