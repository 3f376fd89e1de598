#include "worker/trainer/data_feed/row_store.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"

namespace studio {

RowStore::RowStore(std::vector<TokenShard> shards) : shards_(std::move(shards)) {
  int64_t rows = 0;
  for (const TokenShard& shard : shards_) ends_.push_back(rows += shard.rows());
}

TokenRow RowStore::row(int64_t i) const {
  STUDIO_CHECK(0 <= i && i < size()) << "row " << i << " of " << size();
  const size_t shard = std::upper_bound(ends_.begin(), ends_.end(), i) - ends_.begin();
  return shards_[shard].row(i - (shard == 0 ? 0 : ends_[shard - 1]));
}

int64_t RowStore::Tokens(std::span<const uint32_t> rows) const {
  int64_t tokens = 0;
  for (const uint32_t i : rows) tokens += row(i).tokens.size();
  return tokens;
}

int64_t RowStore::ValidTokens(std::span<const uint32_t> rows) const {
  int64_t valid = 0;
  for (const uint32_t i : rows) {
    const std::span<const uint8_t> learn = row(i).learn;
    valid += std::accumulate(learn.begin(), learn.end(), int64_t{0});
  }
  return valid;
}

int64_t RowStore::MostTokens(int64_t rows) const {
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < size(); ++i) lengths.push_back(static_cast<int64_t>(row(i).tokens.size()));
  const auto end = lengths.begin() + std::min(rows, size());
  std::partial_sort(lengths.begin(), end, lengths.end(), std::greater<>());
  return std::accumulate(lengths.begin(), end, int64_t{0});
}

absl::Status RowStore::CheckVocabulary(int64_t vocab_size) const {
  for (const TokenShard& shard : shards_) {
    if (shard.vocab_size() <= vocab_size) continue;  // every token is below the shard's
    for (int64_t i = 0; i < shard.rows(); ++i) {
      for (const uint32_t token : shard.row(i).tokens) {
        if (token < vocab_size) continue;
        return absl::InvalidArgumentError(
            absl::StrCat("row ", i, " has token ", token, ", the model's vocab_size is ", vocab_size,
                         ": tokenizer.json and config.json of architecture.llm_backbone do not belong together"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace studio
