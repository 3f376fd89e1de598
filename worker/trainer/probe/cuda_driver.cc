#include "worker/trainer/probe/cuda_driver.h"

#include <dlfcn.h>

#include <cstddef>

#include "absl/strings/str_cat.h"

namespace studio {
namespace {

// CUdevice_attribute of the driver API; the numbers are part of its ABI.
constexpr int kIntegrated = 18;
constexpr int kCapabilityMajor = 75;
constexpr int kCapabilityMinor = 76;
constexpr int kUsesHostPageTables = 100;

template <typename Function>
Function* Symbol(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

// Never closed: LibTorch uses it too. Null where there is none.
void* Driver() { return dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL); }

}  // namespace

std::string CudaOfDriver() {
  void* const driver = Driver();
  const auto version_of = driver == nullptr ? nullptr : Symbol<int(int*)>(driver, "cuDriverGetVersion");
  int version = 0;
  if (version_of == nullptr || version_of(&version) != 0) return "";
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

std::string CudaPciBusId(int index) {
  void* const driver = Driver();
  if (driver == nullptr) return "";
  const auto init = Symbol<int(unsigned)>(driver, "cuInit");
  const auto get = Symbol<int(int*, int)>(driver, "cuDeviceGet");
  const auto bus_of = Symbol<int(char*, int, int)>(driver, "cuDeviceGetPCIBusId");
  int device = 0;
  char text[32] = "";
  if (!init || !get || !bus_of || init(0) != 0 || get(&device, index) != 0) return "";
  return bus_of(text, sizeof(text), device) == 0 ? text : "";
}

std::optional<CudaDeviceInfo> ReadCudaDevice(int index) {
  void* const driver = Driver();
  if (driver == nullptr) return std::nullopt;
  const auto init = Symbol<int(unsigned)>(driver, "cuInit");
  const auto get = Symbol<int(int*, int)>(driver, "cuDeviceGet");
  const auto name_of = Symbol<int(char*, int, int)>(driver, "cuDeviceGetName");
  const auto attribute = Symbol<int(int*, int, int)>(driver, "cuDeviceGetAttribute");
  if (!init || !get || !name_of || !attribute) return std::nullopt;

  int device = 0, major = 0, minor = 0, integrated = 0, coherent = 0;
  char name[256] = "";
  if (init(0) != 0 || get(&device, index) != 0 || name_of(name, sizeof(name), device) != 0) return std::nullopt;
  attribute(&major, kCapabilityMajor, device);
  attribute(&minor, kCapabilityMinor, device);
  attribute(&integrated, kIntegrated, device);
  attribute(&coherent, kUsesHostPageTables, device);
  return CudaDeviceInfo{name, absl::StrCat(major, ".", minor), CudaOfDriver(), integrated != 0, coherent != 0};
}

std::optional<CudaMemory> ReadCudaMemory(int index) {
  void* const driver = Driver();
  if (driver == nullptr) return std::nullopt;
  const auto init = Symbol<int(unsigned)>(driver, "cuInit");
  const auto get = Symbol<int(int*, int)>(driver, "cuDeviceGet");
  const auto retain = Symbol<int(void**, int)>(driver, "cuDevicePrimaryCtxRetain");
  const auto release = Symbol<int(int)>(driver, "cuDevicePrimaryCtxRelease_v2");
  const auto push = Symbol<int(void*)>(driver, "cuCtxPushCurrent_v2");
  const auto pop = Symbol<int(void**)>(driver, "cuCtxPopCurrent_v2");
  const auto info = Symbol<int(size_t*, size_t*)>(driver, "cuMemGetInfo_v2");
  if (!init || !get || !retain || !release || !push || !pop || !info) return std::nullopt;

  int device = 0;
  void *context = nullptr, *popped = nullptr;
  if (init(0) != 0 || get(&device, index) != 0 || retain(&context, device) != 0) return std::nullopt;
  size_t free = 0, total = 0;
  const bool pushed = push(context) == 0;
  const bool known = pushed && info(&free, &total) == 0;
  if (pushed) pop(&popped);
  release(device);
  if (!known) return std::nullopt;
  return CudaMemory{static_cast<int64_t>(free), static_cast<int64_t>(total)};
}

}  // namespace studio
