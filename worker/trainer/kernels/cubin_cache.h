// Compiled kernels on disk, so that only the first run on a machine waits for the compiler.
//
//   CubinCache cache(env, DefaultKernelFolder());
//   ASSIGN_OR_RETURN(std::string cubin, cache.Get(*compiler, CudaSource(), "sm_90"));
//
// <folder>/<SHA-256 of the text, the architecture and the compiler's version>.cubin: a line with the SHA-256 of the
// machine code, then the code. A file that is torn, foreign or cannot be read is compiled again, and one that cannot be
// written costs the next run some seconds: the cache never fails a run. Processes may share a folder.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/env/env.h"
#include "worker/trainer/kernels/compiler.h"

namespace studio::kernels {

// $XDG_CACHE_HOME/studio/kernels, else ~/.cache/studio/kernels; empty where the environment names no home.
std::string DefaultKernelFolder();

class CubinCache {
 public:
  // `env` outlives the cache. An empty folder: nothing is kept.
  CubinCache(Env& env, std::string folder) : env_(env), folder_(std::move(folder)) {}

  // Errors are the compiler's.
  absl::StatusOr<std::string> Get(const Compiler& compiler, absl::string_view source, const std::string& architecture);

 private:
  Env& env_;
  const std::string folder_;
};

}  // namespace studio::kernels
