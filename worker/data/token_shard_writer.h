// Writes one token shard (docs/token_shard_format.md).
//
//   TokenShardWriter writer("/tmp/x.tok", /*max_length=*/2048, /*vocab_size=*/49152);
//   writer.BeginRow();
//   writer.AddExample(tokens, learn);      // as many as fit the row
//   RETURN_IF_ERROR(writer.Finish());      // the file is whole and synced
//
// Not thread-safe. Holds the shard in memory until Finish: the caller begins a new one after kTokensPerShard tokens.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace studio {

class TokenShardWriter {
 public:
  static constexpr int64_t kTokensPerShard = int64_t{64} << 20;

  TokenShardWriter(std::string path, int64_t max_length, int64_t vocab_size);

  // The next examples belong to a new row.
  void BeginRow();
  // tokens: not empty; learn: as long, of 0 and 1; learn[0] counts as 0. Together with the row's others at most
  // max_length tokens. These are the caller's promises: they are CHECKed.
  void AddExample(std::span<const uint32_t> tokens, std::span<const uint8_t> learn);

  int64_t rows() const { return static_cast<int64_t>(row_tokens_.size()); }
  int64_t tokens() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t valid_tokens() const { return valid_tokens_; }

  absl::Status Finish();

 private:
  std::string path_;
  int64_t max_length_;
  int64_t vocab_size_;
  // Where each row begins; Finish adds the ends.
  std::vector<uint64_t> row_tokens_;
  std::vector<uint64_t> row_examples_;
  std::vector<uint32_t> starts_;
  std::vector<uint32_t> tokens_;
  std::vector<uint8_t> learn_;
  int64_t valid_tokens_ = 0;
};

}  // namespace studio
