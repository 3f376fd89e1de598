// All rows of a data set, whatever shard they lie in.
//
//   RowStore rows(std::move(prepared.train));
//   const TokenRow row = rows.row(17);
//
// Owns the shards; the rows point into them. Reading is thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/data/token_shard.h"

namespace studio {

class RowStore {
 public:
  explicit RowStore(std::vector<TokenShard> shards);

  int64_t size() const { return ends_.empty() ? 0 : ends_.back(); }
  // 0 ≤ i < size().
  TokenRow row(int64_t i) const;

  // Tokens of these rows, and those of them that are learnt.
  int64_t Tokens(std::span<const uint32_t> rows) const;
  int64_t ValidTokens(std::span<const uint32_t> rows) const;
  // Of the largest batch that so many rows can be.
  int64_t MostTokens(int64_t rows) const;
  // InvalidArgument where a token has no row in an embedding of this many. Tokenizers may have more tokens than the
  // model as long as none of them is in the data.
  absl::Status CheckVocabulary(int64_t vocab_size) const;

 private:
  std::vector<TokenShard> shards_;
  // Rows up to the end of each shard.
  std::vector<int64_t> ends_;
};

}  // namespace studio
