#include "worker/trainer/probe/optional_libraries.h"

#include <dlfcn.h>

#include "common/platform/features.h"
#include "worker/trainer/probe/bitsandbytes.h"

namespace studio {
namespace {

constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";

void* Open(const std::string& path) { return dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL); }

}  // namespace

std::set<std::string> FindOptionalLibraries(bool cuda) {
  std::set<std::string> found;
  if (Open(kNvmlLibrary) != nullptr) found.insert(features::kNvml);
  if (Open("libnccl.so.2") != nullptr) found.insert(features::kNccl);
  if (OpenBitsandbytes(cuda).ok()) found.insert(features::kBitsandbytes);
  return found;
}

std::string NvidiaDriverVersion() {
  void* const nvml = Open(kNvmlLibrary);
  if (nvml == nullptr) return "";
  const auto init = reinterpret_cast<int (*)()>(dlsym(nvml, "nvmlInit_v2"));
  const auto shutdown = reinterpret_cast<int (*)()>(dlsym(nvml, "nvmlShutdown"));
  const auto version = reinterpret_cast<int (*)(char*, unsigned)>(dlsym(nvml, "nvmlSystemGetDriverVersion"));
  char text[80] = "";
  if (init == nullptr || shutdown == nullptr || version == nullptr || init() != 0) return "";
  if (version(text, sizeof text) != 0) text[0] = '\0';
  shutdown();
  return text;
}

}  // namespace studio
