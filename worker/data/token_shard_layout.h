// The header of a token shard and where its sections lie, shared by reader and writer (docs/token_shard_format.md).
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace studio::token_shard {

static_assert(std::endian::native == std::endian::little, "token shards are used as they lie: little-endian only");

inline constexpr char kMagic[8] = {'S', 'T', 'U', 'D', 'T', 'O', 'K', '\n'};
inline constexpr uint32_t kVersion = 1;
inline constexpr uint32_t kByteOrder = 0x01020304;
inline constexpr uint64_t kChecksumBytes = 32;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t byte_order;
  uint64_t rows;
  uint64_t examples;
  uint64_t tokens;
  uint64_t valid_tokens;
  uint64_t max_length;
  uint64_t vocab_size;
};
static_assert(sizeof(Header) == 64);

// Byte offsets of the sections.
struct Layout {
  uint64_t row_tokens;
  uint64_t row_examples;
  uint64_t starts;
  uint64_t tokens;
  uint64_t learn;
  uint64_t checksum;
  uint64_t file_bytes;
};

constexpr uint64_t Align8(uint64_t offset) { return (offset + 7) / 8 * 8; }

// The counts must be below 2^48, so that no sum wraps: the reader checks that first.
inline constexpr uint64_t kMaxCount = uint64_t{1} << 48;

constexpr Layout LayoutOf(uint64_t rows, uint64_t examples, uint64_t tokens) {
  Layout layout{};
  layout.row_tokens = sizeof(Header);
  layout.row_examples = layout.row_tokens + (rows + 1) * 8;
  layout.starts = layout.row_examples + (rows + 1) * 8;
  layout.tokens = Align8(layout.starts + examples * 4);
  layout.learn = Align8(layout.tokens + tokens * 4);
  layout.checksum = Align8(layout.learn + tokens);
  layout.file_bytes = layout.checksum + kChecksumBytes;
  return layout;
}

}  // namespace studio::token_shard
