// Any bytes are a valid shard or an error; the checksum is made right, so that the checks behind it are reached.
#include <openssl/sha.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "common/status/check.h"
#include "worker/data/token_shard.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint64_t> words((size + 7) / 8 + 1);
  unsigned char* bytes = reinterpret_cast<unsigned char*>(words.data());
  std::memcpy(bytes, data, size);
  if (size >= 32) SHA256(bytes, size - 32, bytes + size - 32);
  const auto shard = studio::TokenShard::FromMemory({reinterpret_cast<const std::byte*>(bytes), size}, "fuzz");
  if (!shard.ok()) {
    STUDIO_CHECK(absl::IsDataLoss(shard.status())) << shard.status();
    return 0;
  }
  int64_t valid_tokens = 0;
  for (int64_t i = 0; i < shard->rows(); ++i) {
    const studio::TokenRow row = shard->row(i);
    STUDIO_CHECK(row.tokens.size() == row.learn.size() && !row.starts.empty()) << i;
    for (size_t t = 0; t < row.tokens.size(); ++t) {
      STUDIO_CHECK(row.tokens[t] < shard->vocab_size()) << i;
      valid_tokens += row.learn[t];
    }
  }
  STUDIO_CHECK(valid_tokens == shard->valid_tokens()) << valid_tokens;
  return 0;
}
