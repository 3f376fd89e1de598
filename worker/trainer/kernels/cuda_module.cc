#include "worker/trainer/kernels/cuda_module.h"

#include <c10/core/DeviceGuard.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "worker/trainer/libtorch/accelerator.h"

namespace studio::kernels {

// The driver API's functions; types are pointers and ints, as its ABI has them.
struct CudaDriver {
  int (*init)(unsigned);
  int (*device_get)(int*, int);
  int (*device_attribute)(int*, int, int);
  int (*context_current)(void**);
  int (*context_push)(void*);
  int (*context_pop)(void**);
  int (*module_load)(void**, const void*);
  int (*module_unload)(void*);
  int (*module_function)(void**, void*, const char*);
  int (*function_attribute)(void*, int, int);
  int (*launch)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**);
  int (*error_string)(int, const char**);

  std::string Text(int result) const {
    const char* text = nullptr;
    error_string(result, &text);
    return absl::StrCat("CUDA driver error ", result, text == nullptr ? "" : absl::StrCat(" (", text, ")"));
  }
};

namespace {

// CUdevice_attribute of the driver API; the numbers are part of its ABI.
constexpr int kMultiprocessors = 16;
constexpr int kCacheBytes = 38;
constexpr int kCapabilityMajor = 75;
constexpr int kCapabilityMinor = 76;
constexpr int kSharedBytesPerBlock = 97;
// CUfunction_attribute.
constexpr int kDynamicSharedBytes = 8;

// Null where there is none. Loaded once and never closed: LibTorch uses it too.
const CudaDriver* Driver() {
  static const CudaDriver* const driver = []() -> const CudaDriver* {
    void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return nullptr;
    static CudaDriver functions;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    // The names behind cuda.h's macros: the versioned ones are those of 64-bit addresses.
    const bool whole =
        find(functions.init, "cuInit") && find(functions.device_get, "cuDeviceGet") &&
        find(functions.device_attribute, "cuDeviceGetAttribute") &&
        find(functions.context_current, "cuCtxGetCurrent") && find(functions.context_push, "cuCtxPushCurrent_v2") &&
        find(functions.context_pop, "cuCtxPopCurrent_v2") && find(functions.module_load, "cuModuleLoadData") &&
        find(functions.module_unload, "cuModuleUnload") && find(functions.module_function, "cuModuleGetFunction") &&
        find(functions.function_attribute, "cuFuncSetAttribute") && find(functions.launch, "cuLaunchKernel") &&
        find(functions.error_string, "cuGetErrorString");
    return whole && functions.init(0) == 0 ? &functions : nullptr;
  }();
  return driver;
}

}  // namespace

absl::StatusOr<CudaDeviceKind> DescribeCudaDevice(c10::Device device) {
  const CudaDriver* const driver = Driver();
  if (driver == nullptr) return absl::NotFoundError("libcuda.so.1 is not there or sees no device: no NVIDIA driver");
  int ordinal = 0;
  const int result = driver->device_get(&ordinal, device.index());
  if (result != 0) return absl::NotFoundError(absl::StrCat(device.str(), ": ", driver->Text(result)));
  const auto attribute = [&](int which) {
    int value = 0;
    driver->device_attribute(&value, which, ordinal);
    return value;
  };
  CudaDeviceKind kind;
  kind.limits.multiprocessors = attribute(kMultiprocessors);
  kind.limits.shared_bytes_per_block = attribute(kSharedBytesPerBlock);
  kind.limits.cache_bytes = attribute(kCacheBytes);
  kind.architecture = absl::StrCat("sm_", attribute(kCapabilityMajor), attribute(kCapabilityMinor));
  return kind;
}

absl::StatusOr<std::unique_ptr<CudaModule>> CudaModule::Load(c10::Device device, const std::string& cubin) {
  const CudaDriver* const driver = Driver();
  if (driver == nullptr) return absl::NotFoundError("libcuda.so.1 is not there or sees no device: no NVIDIA driver");
  const c10::DeviceGuard guard(device);
  std::unique_ptr<CudaModule> module(new CudaModule(*driver, device));
  int result = driver->context_current(&module->context_);
  if (result == 0 && module->context_ == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(device.str(), " has no context: LibTorch has not used it yet"));
  }
  if (result == 0) result = driver->module_load(&module->module_, cubin.data());
  if (result != 0) {
    return absl::InternalError(
        absl::StrCat(device.str(), " does not load our kernels' machine code: ", driver->Text(result)));
  }
  return module;
}

CudaModule::~CudaModule() {
  if (module_ == nullptr) return;
  void* popped = nullptr;
  // Fails when the process is ending and the driver has gone before us: then there is nothing to free either.
  if (driver_.context_push(context_) != 0) return;
  driver_.module_unload(module_);
  driver_.context_pop(&popped);
}

void* CudaModule::Function(const Launch& launch) const {
  const absl::MutexLock lock(&mutex_);
  void*& function = functions_[launch.kernel];
  if (function == nullptr) {
    driver_.module_function(&function, module_, launch.kernel.c_str());
    STUDIO_CHECK(function != nullptr) << "no kernel " << launch.kernel << " in our program";
  }
  // More than 48 KiB must be asked for; each time, since one kernel may be launched with less and with more.
  if (launch.shared_bytes > 0) {
    const int result = driver_.function_attribute(function, kDynamicSharedBytes, static_cast<int>(launch.shared_bytes));
    TORCH_CHECK(result == 0, launch.kernel, " with ", launch.shared_bytes, " bytes of shared memory on ", device_, ": ",
                driver_.Text(result));
  }
  return function;
}

void CudaModule::Run(const Launch& launch, void** arguments) const {
  void* const stream = libtorch::CurrentNativeStream(device_);
  // A thread that has not called CUDA's runtime has no context, or another device's.
  void *current = nullptr, *popped = nullptr;
  driver_.context_current(&current);
  const bool foreign = current != context_;
  int result = foreign ? driver_.context_push(context_) : 0;
  if (result == 0) {
    result = driver_.launch(Function(launch), launch.grid, launch.grid_y, 1, launch.block, launch.block_y, 1,
                            launch.shared_bytes, stream, arguments, nullptr);
    if (foreign) driver_.context_pop(&popped);
  }
  TORCH_CHECK(result == 0, launch.kernel, " on ", device_, ": ", driver_.Text(result));
}

}  // namespace studio::kernels
