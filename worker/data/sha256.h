// SHA-256, a piece at a time.
//
//   Sha256 hash;
//   hash.Update("abc");
//   std::string hex = hash.HexDigest();   // ends it: Update may not follow
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct evp_md_ctx_st;  // OpenSSL's, kept out of this header

namespace studio::dataprep {

class Sha256 {
 public:
  Sha256();
  void Update(absl::string_view bytes);
  // 32 bytes.
  std::string RawDigest();
  // 64 lower-case letters.
  std::string HexDigest();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string Sha256Hex(absl::string_view bytes);

// NotFound where there is no such file.
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);

}  // namespace studio::dataprep
