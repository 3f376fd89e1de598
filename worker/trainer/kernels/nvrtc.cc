#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status/macros.h"
#include "worker/trainer/kernels/compiler.h"

namespace studio::kernels {
namespace {

namespace fs = std::filesystem;

// nvrtcResult of its C interface; the numbers are part of its ABI.
constexpr int kInvalidOption = 5;

// Newest first. A LibTorch brings one of them.
constexpr const char* kNames[] = {"libnvrtc.so.13", "libnvrtc.so.12"};

// nvidia/<package>/lib folders beside the torch package that LibTorch was loaded from.
std::vector<fs::path> WheelFolders() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&at::get_num_threads), &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code error;
  const fs::path packages = fs::canonical(info.dli_fname, error).parent_path().parent_path().parent_path() / "nvidia";
  std::vector<fs::path> folders;
  for (fs::directory_iterator it(packages, error), end; !error && it != end; it.increment(error)) {
    folders.push_back(it->path() / "lib");
  }
  return folders;
}

// The compiler opens this one by its bare name, which only works where it is loaded already.
void LoadBuiltins(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename();
    if (name.starts_with("libnvrtc-builtins.so.")) dlopen(it->path().c_str(), RTLD_NOW | RTLD_LOCAL);
  }
}

// Never closed: LibTorch may use it too.
void* Open() {
  for (const char* name : kNames) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  for (const fs::path& folder : WheelFolders()) {
    for (const char* name : kNames) {
      if (void* library = dlopen((folder / name).c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    }
  }
  return nullptr;
}

class Nvrtc final : public Compiler {
 public:
  static absl::StatusOr<std::unique_ptr<Compiler>> Load() {
    void* const library = Open();
    if (library == nullptr) {
      return absl::NotFoundError(absl::StrCat(
          "the CUDA run-time compiler is not there: neither ", absl::StrJoin(kNames, " nor "),
          " could be loaded by name or from nvidia/*/lib beside LibTorch (the wheel nvidia-cuda-nvrtc brings it)"));
    }
    auto nvrtc = std::make_unique<Nvrtc>();
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
      return function != nullptr;
    };
    if (!find(nvrtc->version_, "nvrtcVersion") || !find(nvrtc->create_, "nvrtcCreateProgram") ||
        !find(nvrtc->compile_, "nvrtcCompileProgram") || !find(nvrtc->destroy_, "nvrtcDestroyProgram") ||
        !find(nvrtc->log_size_, "nvrtcGetProgramLogSize") || !find(nvrtc->log_, "nvrtcGetProgramLog") ||
        !find(nvrtc->cubin_size_, "nvrtcGetCUBINSize") || !find(nvrtc->cubin_, "nvrtcGetCUBIN") ||
        !find(nvrtc->error_, "nvrtcGetErrorString")) {
      return absl::NotFoundError("the CUDA run-time compiler lacks a function: older than CUDA 11.2");
    }
    Dl_info info;
    std::error_code error;
    if (dladdr(reinterpret_cast<const void*>(nvrtc->version_), &info) != 0 && info.dli_fname != nullptr) {
      LoadBuiltins(fs::canonical(info.dli_fname, error).parent_path());
    }
    return nvrtc;
  }

  std::string version() const override {
    int major = 0, minor = 0;
    version_(&major, &minor);
    return absl::StrCat("nvrtc ", major, ".", minor);
  }

  absl::StatusOr<std::string> Compile(absl::string_view source, const std::string& architecture) const override {
    Program program = nullptr;
    const std::string text(source);
    if (const int result = create_(&program, text.c_str(), "studio.cu", 0, nullptr, nullptr); result != 0) {
      return absl::InternalError(absl::StrCat(version(), ": no program: ", error_(result)));
    }
    absl::StatusOr<std::string> cubin = CompileProgram(program, architecture);
    destroy_(&program);
    return cubin;
  }

 private:
  using Program = void*;

  absl::StatusOr<std::string> CompileProgram(Program program, const std::string& architecture) const {
    const std::string target = absl::StrCat("--gpu-architecture=", architecture);
    // Lines for profilers cost nothing at run time.
    const char* const options[] = {target.c_str(), "--std=c++17", "-lineinfo"};
    const int result = compile_(program, std::size(options), options);
    if (result != 0) {
      size_t size = 0;
      log_size_(program, &size);
      std::string log(size, '\0');
      log_(program, log.data());
      const std::string text = absl::StrCat(version(), " for ", architecture, ": ", error_(result), ": ", log.c_str());
      return result == kInvalidOption ? absl::FailedPreconditionError(text) : absl::InternalError(text);
    }
    size_t size = 0;
    cubin_size_(program, &size);
    std::string cubin(size, '\0');
    cubin_(program, cubin.data());
    if (size == 0) return absl::InternalError(absl::StrCat(version(), " for ", architecture, ": no machine code"));
    return cubin;
  }

  int (*version_)(int*, int*) = nullptr;
  int (*create_)(Program*, const char*, const char*, int, const char* const*, const char* const*) = nullptr;
  int (*compile_)(Program, int, const char* const*) = nullptr;
  int (*destroy_)(Program*) = nullptr;
  int (*log_size_)(Program, size_t*) = nullptr;
  int (*log_)(Program, char*) = nullptr;
  int (*cubin_size_)(Program, size_t*) = nullptr;
  int (*cubin_)(Program, char*) = nullptr;
  const char* (*error_)(int) = nullptr;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Compiler>> LoadNvrtc() { return Nvrtc::Load(); }

}  // namespace studio::kernels
