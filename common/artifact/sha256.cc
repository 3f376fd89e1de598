#include "common/artifact/sha256.h"

#include <openssl/evp.h>

#include "absl/strings/escaping.h"
#include "common/artifact/file_io.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio {

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

// OpenSSL fails these only where memory or the algorithm itself is missing: nothing a caller could mend.
Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  STUDIO_CHECK(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::Update(absl::string_view bytes) {
  STUDIO_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

std::string Sha256::Raw() const {
  Sha256 copy;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  STUDIO_CHECK(EVP_MD_CTX_copy_ex(copy.context_.get(), context_.get()) == 1);
  STUDIO_CHECK(EVP_DigestFinal_ex(copy.context_.get(), digest, &size) == 1);
  return std::string(reinterpret_cast<const char*>(digest), size);
}

std::string Sha256::Hex() const { return absl::BytesToHexString(Raw()); }

std::string Sha256Hex(absl::string_view bytes) {
  Sha256 hash;
  hash.Update(bytes);
  return hash.Hex();
}

absl::StatusOr<std::string> Sha256OfFile(const std::string& path) {
  ASSIGN_OR_RETURN(const Fd fd, OpenForRead(path));
  Sha256 hash;
  RETURN_IF_ERROR(ReadAll(fd, path, [&](absl::string_view bytes) {
    hash.Update(bytes);
    return absl::OkStatus();
  }));
  return hash.Hex();
}

bool IsSha256(absl::string_view text) {
  if (text.size() != 64) return false;
  for (const char c : text) {
    if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return false;
  }
  return true;
}

}  // namespace studio
