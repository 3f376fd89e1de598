// A file of token rows, mapped into memory. docs/token_shard_format.md has the layout.
//
//   ASSIGN_OR_RETURN(TokenShard shard, TokenShard::Open("/data/…/train-00000.tok"));
//   for (int64_t i = 0; i < shard.rows(); ++i) {
//     TokenRow row = shard.row(i);   // row.tokens, row.learn, row.starts
//   }
//
// Everything was checked when Open returns: sizes, order, token range, checksum. Afterwards the file must not change;
// it may be unlinked. Reading is thread-safe. Rows point into the mapping, which the shard owns: they live as long as
// it does (moving the shard keeps them valid).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace studio {

struct TokenRow {
  // Token ids of all examples of the row, one after another.
  std::span<const uint32_t> tokens;
  // As long as `tokens`. 1: the token is a label, to be predicted from its predecessor in the same example.
  std::span<const uint8_t> learn;
  // First token of each example; the first is 0.
  std::span<const uint32_t> starts;
};

class TokenShard {
 public:
  // NotFound where there is no file, DataLoss with what is wrong where it is not a whole, valid shard.
  static absl::StatusOr<TokenShard> Open(const std::string& path);

  // Checks a shard in memory that outlives the result; data must be aligned to 8 bytes. `name` is for messages.
  static absl::StatusOr<TokenShard> FromMemory(std::span<const std::byte> data, const std::string& name);

  TokenShard(TokenShard&& other) noexcept;
  TokenShard& operator=(TokenShard&& other) noexcept;
  TokenShard(const TokenShard&) = delete;
  TokenShard& operator=(const TokenShard&) = delete;
  ~TokenShard();

  int64_t rows() const { return static_cast<int64_t>(row_tokens_.size()) - 1; }
  int64_t examples() const { return static_cast<int64_t>(starts_.size()); }
  int64_t tokens() const { return static_cast<int64_t>(tokens_.size()); }
  // Tokens that are labels.
  int64_t valid_tokens() const { return valid_tokens_; }
  // No row is longer; no token id reaches vocab_size.
  int64_t max_length() const { return max_length_; }
  int64_t vocab_size() const { return vocab_size_; }

  // 0 ≤ i < rows().
  TokenRow row(int64_t i) const;

 private:
  TokenShard() = default;
  void Unmap();

  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  std::span<const uint64_t> row_tokens_;
  std::span<const uint64_t> row_examples_;
  std::span<const uint32_t> starts_;
  std::span<const uint32_t> tokens_;
  std::span<const uint8_t> learn_;
  int64_t valid_tokens_ = 0;
  int64_t max_length_ = 0;
  int64_t vocab_size_ = 0;
};

}  // namespace studio
