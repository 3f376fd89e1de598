#include "worker/trainer/kernels/cubin_cache.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "common/artifact/sha256.h"
#include "common/status/macros.h"

namespace studio::kernels {
namespace {

constexpr size_t kHashSize = 64;

std::string Variable(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets variables
  return value == nullptr ? "" : value;
}

}  // namespace

std::string DefaultKernelFolder() {
  if (const std::string cache = Variable("XDG_CACHE_HOME"); !cache.empty()) return cache + "/studio/kernels";
  if (const std::string home = Variable("HOME"); !home.empty()) return home + "/.cache/studio/kernels";
  return "";
}

absl::StatusOr<std::string> CubinCache::Get(const Compiler& compiler, absl::string_view source,
                                            const std::string& architecture) {
  if (folder_.empty()) return compiler.Compile(source, architecture);
  // The text last, so that no two of the three can be read differently.
  const std::string key = Sha256Hex(absl::StrCat(architecture, "\n", compiler.version(), "\n", source));
  const std::string path = absl::StrCat(folder_, "/", key, ".cubin");
  if (const auto file = env_.ReadFile(path); file.ok() && file->size() > kHashSize + 1) {
    std::string cubin = file->substr(kHashSize + 1);
    if (file->compare(0, kHashSize, Sha256Hex(cubin)) == 0) return cubin;
  }
  ASSIGN_OR_RETURN(std::string cubin, compiler.Compile(source, architecture));
  if (env_.MakeFolders(folder_).ok()) {
    env_.WriteFile(path, absl::StrCat(Sha256Hex(cubin), "\n", cubin)).IgnoreError();  // see the header
  }
  return cubin;
}

}  // namespace studio::kernels
