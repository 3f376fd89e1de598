#include "worker/trainer/checkpoint/file_ref.h"

#include <openssl/evp.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio {
namespace {

class Hasher {
 public:
  Hasher() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    STUDIO_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void Add(const char* bytes, size_t size) { STUDIO_CHECK(EVP_DigestUpdate(context_.get(), bytes, size) == 1); }
  std::string Hex() {
    unsigned char digest[32];
    STUDIO_CHECK(EVP_DigestFinal_ex(context_.get(), digest, nullptr) == 1);
    return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), sizeof(digest)));
  }

 private:
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

}  // namespace

std::string Sha256OfBytes(std::string_view bytes) {
  Hasher hasher;
  hasher.Add(bytes.data(), bytes.size());
  return hasher.Hex();
}

absl::StatusOr<v1::FileRef> HashFile(const std::string& folder, const std::string& path) {
  const std::string whole = absl::StrCat(folder, "/", path);
  std::ifstream file(whole, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(whole, ": no such file"));
  Hasher hasher;
  std::vector<char> buffer(1 << 20);
  v1::FileRef ref;
  ref.set_path(path);
  int64_t size = 0;
  while (file.read(buffer.data(), buffer.size()) || file.gcount() > 0) {
    hasher.Add(buffer.data(), file.gcount());
    size += file.gcount();
  }
  if (file.bad()) return absl::UnavailableError(absl::StrCat(whole, ": cannot be read to its end"));
  ref.set_size_bytes(size);
  ref.set_sha256(hasher.Hex());
  return ref;
}

absl::StatusOr<v1::Artifact> HashFolder(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->is_regular_file()) paths.push_back(std::filesystem::relative(it->path(), folder).string());
  }
  if (error) return absl::UnavailableError(absl::StrCat(folder, ": ", error.message()));
  std::sort(paths.begin(), paths.end());
  v1::Artifact artifact;
  for (const std::string& path : paths) {
    ASSIGN_OR_RETURN(*artifact.add_files(), HashFile(folder, path));
  }
  return artifact;
}

}  // namespace studio
