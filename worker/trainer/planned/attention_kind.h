// The ways of attention that the planned step has, and their names in text.
#pragma once

#include <optional>

#include "absl/strings/string_view.h"

namespace studio::planned {

enum class AttentionKind {
  kCudnn,      // sequences of one length, bf16 or fp16 on CUDA
  kFlash,      // FlashAttention-2 over cu_seqlens, for packed rows of any lengths
  kReference,  // the autograd path's attention, by autograd: CPU, fp32, head sizes that the others lack
};

inline absl::string_view NameOf(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::kCudnn:
      return "cudnn";
    case AttentionKind::kFlash:
      return "flash";
    case AttentionKind::kReference:
      return "reference";
  }
  return "";
}

inline std::optional<AttentionKind> AttentionKindOf(absl::string_view name) {
  for (const AttentionKind kind : {AttentionKind::kCudnn, AttentionKind::kFlash, AttentionKind::kReference}) {
    if (NameOf(kind) == name) return kind;
  }
  return std::nullopt;
}

}  // namespace studio::planned
