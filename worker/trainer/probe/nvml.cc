#include "worker/trainer/probe/nvml.h"

#include <dlfcn.h>

#include "worker/trainer/probe/cuda_driver.h"

namespace studio {
namespace {

// nvmlUtilization_t.
struct NvmlShares {
  unsigned kernels_percent = 0;
  unsigned memory_percent = 0;
};

template <typename Function>
Function* Symbol(const char* name) {
  void* const library = dlopen(kNvmlLibrary, RTLD_LAZY | RTLD_LOCAL);
  return library == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

std::string NvidiaDriverVersion() {
  const auto init = Symbol<int()>("nvmlInit_v2");
  const auto shutdown = Symbol<int()>("nvmlShutdown");
  const auto version = Symbol<int(char*, unsigned)>("nvmlSystemGetDriverVersion");
  char text[80] = "";
  if (init == nullptr || shutdown == nullptr || version == nullptr || init() != 0) return "";
  if (version(text, sizeof text) != 0) text[0] = '\0';
  shutdown();
  return text;
}

double NvmlUtilization(int index) {
  const auto init = Symbol<int()>("nvmlInit_v2");
  const auto find = Symbol<int(const char*, void**)>("nvmlDeviceGetHandleByPciBusId_v2");
  const auto shares_of = Symbol<int(void*, NvmlShares*)>("nvmlDeviceGetUtilizationRates");
  const std::string bus = CudaPciBusId(index);
  if (init == nullptr || find == nullptr || shares_of == nullptr || bus.empty()) return 0;
  // Once a process: its end ends it.
  static const bool begun = init() == 0;
  void* device = nullptr;
  NvmlShares shares;
  if (!begun || find(bus.c_str(), &device) != 0 || shares_of(device, &shares) != 0) return 0;
  return shares.kernels_percent / 100.0;
}

}  // namespace studio
