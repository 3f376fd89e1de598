#include "worker/trainer/probe/cuda_driver.h"

#include <dlfcn.h>

#include "absl/strings/str_cat.h"

namespace studio {
namespace {

// CUdevice_attribute of the driver API; the numbers are part of its ABI.
constexpr int kIntegrated = 18;
constexpr int kCapabilityMajor = 75;
constexpr int kCapabilityMinor = 76;

template <typename Function>
Function* Symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

std::optional<CudaDeviceInfo> ReadCudaDevice(int index) {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);  // never closed: LibTorch uses it too
  if (driver == nullptr) return std::nullopt;
  const auto init = Symbol<int(unsigned)>(driver, "cuInit");
  const auto get = Symbol<int(int*, int)>(driver, "cuDeviceGet");
  const auto name_of = Symbol<int(char*, int, int)>(driver, "cuDeviceGetName");
  const auto attribute = Symbol<int(int*, int, int)>(driver, "cuDeviceGetAttribute");
  const auto version_of = Symbol<int(int*)>(driver, "cuDriverGetVersion");
  if (!init || !get || !name_of || !attribute || !version_of) return std::nullopt;

  int device = 0, version = 0, major = 0, minor = 0, integrated = 0;
  char name[256] = "";
  if (init(0) != 0 || get(&device, index) != 0 || name_of(name, sizeof(name), device) != 0) return std::nullopt;
  version_of(&version);
  attribute(&major, kCapabilityMajor, device);
  attribute(&minor, kCapabilityMinor, device);
  attribute(&integrated, kIntegrated, device);
  return CudaDeviceInfo{name, absl::StrCat(major, ".", minor), absl::StrCat(version / 1000, ".", version % 1000 / 10),
                        integrated != 0};
}

}  // namespace studio
