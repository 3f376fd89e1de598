// From the text of CUDA kernels to machine code for one kind of device.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Compiler> nvrtc, LoadNvrtc());
//   ASSIGN_OR_RETURN(std::string cubin, nvrtc->Compile(CudaSource(), "sm_90"));
//
// Compiling takes seconds: see cubin_cache.h. Needs no device and no CUDA header. One thread at a time.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace studio::kernels {

class Compiler {
 public:
  virtual ~Compiler() = default;

  // Changes whenever the same text may give other machine code.
  virtual std::string version() const = 0;

  // A cubin for `architecture` ("sm_90"). FailedPrecondition where the compiler does not know it, with the compiler's
  // own words; Internal where the text is wrong.
  virtual absl::StatusOr<std::string> Compile(absl::string_view source, const std::string& architecture) const = 0;
};

// NVIDIA's run-time compiler, a library that CUDA builds of LibTorch bring along. It is looked for by name, then beside
// LibTorch. NotFound where it is in neither place.
absl::StatusOr<std::unique_ptr<Compiler>> LoadNvrtc();

}  // namespace studio::kernels
