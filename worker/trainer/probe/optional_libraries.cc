#include "worker/trainer/probe/optional_libraries.h"

#include <dlfcn.h>

#include <cstdlib>
#include <vector>

#include "common/platform/features.h"

namespace studio {
namespace {

constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";

void* Open(const std::string& path) { return dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL); }

// The wheel has one library for each CUDA; LibTorch's own decides which of them can be loaded.
std::vector<std::string> BitsandbytesNames() {
  std::vector<std::string> names;
  if (const char* path = std::getenv("STUDIO_BITSANDBYTES"); path != nullptr && *path != '\0') names.emplace_back(path);
  for (const char* cuda : {"130", "129", "128", "126"}) {
    names.push_back(std::string("libbitsandbytes_cuda") + cuda + ".so");
  }
  return names;
}

bool AnyOpens(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (Open(name) != nullptr) return true;
  }
  return false;
}

}  // namespace

std::set<std::string> FindOptionalLibraries() {
  std::set<std::string> found;
  if (Open(kNvmlLibrary) != nullptr) found.insert(features::kNvml);
  if (Open("libnccl.so.2") != nullptr) found.insert(features::kNccl);
  if (AnyOpens(BitsandbytesNames())) found.insert(features::kBitsandbytes);
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
