// What attention of one shape took on one kind of device, by each of the ways that apply, and its text on disk.
//
//   AttentionKey key{.device = "NVIDIA H200", …, .longest = 2048, .tokens = 16384, .one_length = true};
//   AttentionFigures figures = {{AttentionKind::kCudnn, 1432.1}, {AttentionKind::kFlash, 1812.5}};
//   Fastest(figures);                                           // kCudnn
//   ParseFigures(FiguresText(key, figures), key);               // figures again
//
// Pure. docs/planned_step.md has the text's form.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/trainer/planned/attention_kind.h"

namespace studio::planned {

// All that a figure depends on.
struct AttentionKey {
  std::string device;              // "NVIDIA H200"
  std::string compute_capability;  // "9.0"
  std::string libtorch;            // "2.11.0": cuDNN and FlashAttention come with it
  std::string dtype;               // "BFloat16"
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t longest = 0;  // tokens of the longest sequence
  int64_t tokens = 0;   // of the micro batch
  // All sequences are as long as the longest; else rows are packed.
  bool one_length = false;

  auto operator<=>(const AttentionKey&) const = default;  // NOLINT(modernize-use-nullptr): it is said of the default
};

// Microseconds of one layer's forward and backward pass.
using AttentionFigures = std::map<AttentionKind, double>;

// What can be taken where FlashAttention runs, the one to take unmeasured first; never empty.
std::vector<AttentionKind> AttentionCandidates(bool one_length, int64_t head_dim);

// Of one figure at least.
AttentionKind Fastest(const AttentionFigures& figures);

// "cudnn 1432.1 us, flash 1812.5 us", for people.
std::string DescribeFigures(const AttentionFigures& figures);

// JSON: the key's fields, "fastest" and "microseconds" by name. No two keys share the text of KeyText.
std::string KeyText(const AttentionKey& key);
std::string FiguresText(const AttentionKey& key, const AttentionFigures& figures);

// DataLoss where the text is torn, contradicts itself or belongs to another key.
absl::StatusOr<AttentionFigures> ParseFigures(absl::string_view text, const AttentionKey& key);

}  // namespace studio::planned
