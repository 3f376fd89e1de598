// Owns a text that third_party/hf gave out.
//
//   HfText error;
//   if (!hf_…(…, error.out())) return absl::InvalidArgumentError(error.view());
#pragma once

#include "absl/strings/string_view.h"
#include "third_party/hf/hf_capi.h"

namespace studio {

class HfText {
 public:
  HfText() = default;
  HfText(const HfText&) = delete;
  HfText& operator=(const HfText&) = delete;
  ~HfText() { hf_bytes_free(bytes_); }

  // Where a call puts its text; once.
  hf_bytes* out() { return &bytes_; }
  absl::string_view view() const { return {bytes_.data == nullptr ? "" : bytes_.data, bytes_.size}; }

 private:
  hf_bytes bytes_{};
};

}  // namespace studio
