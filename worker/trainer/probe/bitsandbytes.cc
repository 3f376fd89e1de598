#include "worker/trainer/probe/bitsandbytes.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <initializer_list>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace studio {
namespace {

namespace fs = std::filesystem;

constexpr char kCpuName[] = "libbitsandbytes_cpu.so";
// A library for another CUDA than the process has does not load.
constexpr const char* kCudaNames[] = {"libbitsandbytes_cuda130.so", "libbitsandbytes_cuda132.so",
                                      "libbitsandbytes_cuda129.so", "libbitsandbytes_cuda128.so",
                                      "libbitsandbytes_cuda126.so"};

std::vector<std::string> Names(bool cuda) {
  std::vector<std::string> names(std::begin(kCudaNames), std::end(kCudaNames));
  if (!cuda) names.insert(names.begin(), kCpuName);
  return names;
}

// Folders to try in turn; "": the loader's path.
std::vector<std::string> Folders() {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error) return {""};
  return {self.parent_path().string() + "/", ""};
}

std::vector<std::string> Candidates(bool cuda) {
  std::vector<std::string> paths;
  const char* const asked = std::getenv("STUDIO_BITSANDBYTES");
  std::vector<std::string> folders = Folders();
  if (asked != nullptr && *asked != '\0') {
    std::error_code error;
    if (!fs::is_directory(asked, error)) return {asked};
    folders = {absl::StrCat(asked, "/")};
  }
  for (const std::string& folder : folders) {
    for (const std::string& name : Names(cuda)) paths.push_back(folder + name);
  }
  return paths;
}

// Before 0.45 the optimizer took fewer arguments under the same name; AdEMAMix came with the others.
std::vector<const char*> Wanted(bool cuda) {
  if (cuda) return {"cadam_8bit_blockwise_grad_fp32", "cademamix_8bit_blockwise_grad_fp32"};
  return {"cquantize_blockwise_cpu_fp32", "cdequantize_blockwise_cpu_fp32"};
}

std::string Lacks(void* handle, bool cuda) {
  for (const char* name : Wanted(cuda)) {
    if (dlsym(handle, name) == nullptr) return absl::StrCat("it has no ", name);
  }
  return "";
}

}  // namespace

absl::StatusOr<BitsandbytesLibrary> OpenBitsandbytes(bool cuda) {
  std::string why;
  const std::vector<std::string> candidates = Candidates(cuda);
  for (const std::string& path : candidates) {
    void* const handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
    const std::string lacks = handle == nullptr ? dlerror() : Lacks(handle, cuda);
    if (handle != nullptr && lacks.empty()) return BitsandbytesLibrary{handle, path};
    std::error_code error;
    if (why.empty() && (handle != nullptr || fs::exists(path, error))) why = absl::StrCat("; ", path, ": ", lacks);
  }
  return absl::NotFoundError(absl::StrCat("bitsandbytes for ", cuda ? "CUDA" : "CPU", " was not found as ",
                                          absl::StrJoin(candidates, ", "), why,
                                          "; set STUDIO_BITSANDBYTES to the folder of its shared libraries"));
}

}  // namespace studio
