// SHA-256 of bytes as they come, and of files.
//
//   Sha256 hash;
//   hash.Update(chunk);
//   std::string hex = hash.Hex();  // lower case; the hash goes on from there
//
// One thread per object.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct evp_md_ctx_st;

namespace studio {

class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void Update(absl::string_view bytes);
  // Of all bytes so far: 32 bytes, or their 64 digits.
  std::string Raw() const;
  std::string Hex() const;

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string Sha256Hex(absl::string_view bytes);
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);

// 64 lower-case hex digits.
bool IsSha256(absl::string_view text);

}  // namespace studio
