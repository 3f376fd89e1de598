#include "worker/trainer/probe/optional_libraries.h"

#include <dlfcn.h>

#include "common/platform/features.h"
#include "worker/trainer/probe/bitsandbytes.h"
#include "worker/trainer/probe/nvml.h"

namespace studio {
namespace {

void* Open(const std::string& path) { return dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL); }

}  // namespace

std::set<std::string> FindOptionalLibraries(bool cuda) {
  std::set<std::string> found;
  if (Open(kNvmlLibrary) != nullptr) found.insert(features::kNvml);
  if (Open("libnccl.so.2") != nullptr) found.insert(features::kNccl);
  if (OpenBitsandbytes(cuda).ok()) found.insert(features::kBitsandbytes);
  return found;
}

}  // namespace studio
