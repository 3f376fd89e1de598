#include "worker/data/token_shard.h"

#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "worker/data/token_shard_layout.h"

namespace studio {
namespace {

using token_shard::Header;
using token_shard::Layout;

template <typename... Parts>
absl::Status Damaged(const std::string& name, const Parts&... parts) {
  return absl::DataLossError(
      absl::StrCat(name, ": not a valid token shard: ", parts..., "; delete its folder and it is prepared anew"));
}

template <typename T>
std::span<const T> Section(std::span<const std::byte> data, uint64_t offset, uint64_t count) {
  return {reinterpret_cast<const T*>(data.data() + offset), static_cast<size_t>(count)};
}

// Starts with 0, rises with every row, ends with `end`.
bool Rises(std::span<const uint64_t> offsets, uint64_t end) {
  if (offsets.front() != 0 || offsets.back() != end) return false;
  for (size_t i = 1; i < offsets.size(); ++i) {
    if (offsets[i] <= offsets[i - 1]) return false;
  }
  return true;
}

absl::Status CheckHeader(const Header& header, uint64_t bytes, const std::string& name) {
  if (std::memcmp(header.magic, token_shard::kMagic, sizeof(header.magic)) != 0) return Damaged(name, "wrong magic");
  if (header.version != token_shard::kVersion) {
    return Damaged(name, "version ", header.version, ", this program reads version ", token_shard::kVersion);
  }
  if (header.byte_order != token_shard::kByteOrder) return Damaged(name, "written with another byte order");
  for (uint64_t count : {header.rows, header.examples, header.tokens, header.valid_tokens, header.max_length}) {
    if (count > token_shard::kMaxCount) return Damaged(name, "a count of ", count);
  }
  if (header.vocab_size > (uint64_t{1} << 32)) return Damaged(name, "a vocabulary of ", header.vocab_size);
  uint64_t expected = token_shard::LayoutOf(header.rows, header.examples, header.tokens).file_bytes;
  if (bytes != expected) return Damaged(name, bytes, " bytes where its header promises ", expected);
  return absl::OkStatus();
}

absl::Status CheckPadding(std::span<const std::byte> data, uint64_t from, uint64_t to, const std::string& name) {
  for (uint64_t i = from; i < to; ++i) {
    if (data[i] != std::byte{0}) return Damaged(name, "byte ", i, " between two sections is not zero");
  }
  return absl::OkStatus();
}

absl::Status CheckRow(const TokenRow& row, int64_t number, const Header& header, const std::string& name) {
  if (row.tokens.size() > header.max_length) {
    return Damaged(name, "row ", number, " has ", row.tokens.size(), " tokens, more than ", header.max_length);
  }
  for (size_t i = 0; i < row.starts.size(); ++i) {
    bool rises = i == 0 ? row.starts[0] == 0 : row.starts[i] > row.starts[i - 1];
    if (!rises || row.starts[i] >= row.tokens.size()) return Damaged(name, "example starts of row ", number);
    if (row.learn[row.starts[i]] != 0) {
      return Damaged(name, "row ", number, " learns the first token of example ", i, ", which has no predecessor");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenShard> TokenShard::FromMemory(std::span<const std::byte> data, const std::string& name) {
  STUDIO_CHECK(reinterpret_cast<uintptr_t>(data.data()) % 8 == 0) << name;
  if (data.size() < sizeof(Header)) return Damaged(name, data.size(), " bytes");
  Header header;
  std::memcpy(&header, data.data(), sizeof(header));
  RETURN_IF_ERROR(CheckHeader(header, data.size(), name));
  const Layout layout = token_shard::LayoutOf(header.rows, header.examples, header.tokens);

  unsigned char hash[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(data.data()), layout.checksum, hash);
  if (std::memcmp(hash, data.data() + layout.checksum, sizeof(hash)) != 0) return Damaged(name, "wrong checksum");

  // From here on a fault is the writer's, not the disk's; it is refused all the same.
  TokenShard shard;
  shard.row_tokens_ = Section<uint64_t>(data, layout.row_tokens, header.rows + 1);
  shard.row_examples_ = Section<uint64_t>(data, layout.row_examples, header.rows + 1);
  shard.starts_ = Section<uint32_t>(data, layout.starts, header.examples);
  shard.tokens_ = Section<uint32_t>(data, layout.tokens, header.tokens);
  shard.learn_ = Section<uint8_t>(data, layout.learn, header.tokens);
  shard.valid_tokens_ = static_cast<int64_t>(header.valid_tokens);
  shard.max_length_ = static_cast<int64_t>(header.max_length);
  shard.vocab_size_ = static_cast<int64_t>(header.vocab_size);

  RETURN_IF_ERROR(CheckPadding(data, layout.starts + header.examples * 4, layout.tokens, name));
  RETURN_IF_ERROR(CheckPadding(data, layout.tokens + header.tokens * 4, layout.learn, name));
  RETURN_IF_ERROR(CheckPadding(data, layout.learn + header.tokens, layout.checksum, name));
  if (!Rises(shard.row_tokens_, header.tokens)) return Damaged(name, "the rows' token offsets");
  if (!Rises(shard.row_examples_, header.examples)) return Damaged(name, "the rows' example offsets");
  for (int64_t i = 0; i < shard.rows(); ++i) RETURN_IF_ERROR(CheckRow(shard.row(i), i, header, name));
  for (uint32_t token : shard.tokens_) {
    if (token >= header.vocab_size) return Damaged(name, "token ", token, " of a vocabulary of ", header.vocab_size);
  }
  uint64_t valid_tokens = 0;
  for (uint8_t learn : shard.learn_) {
    if (learn > 1) return Damaged(name, "a learn byte of ", learn);
    valid_tokens += learn;
  }
  if (valid_tokens != header.valid_tokens) {
    return Damaged(name, valid_tokens, " learnt tokens where its header promises ", header.valid_tokens);
  }
  return shard;
}

absl::StatusOr<TokenShard> TokenShard::Open(const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open token shard ", path));
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return Damaged(path, "not a regular file");
  }
  size_t bytes = static_cast<size_t>(info.st_size);
  if (bytes < sizeof(Header)) {
    close(fd);
    return Damaged(path, bytes, " bytes");
  }
  void* mapping = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  int error = errno;
  close(fd);
  if (mapping == MAP_FAILED) return absl::ErrnoToStatus(error, absl::StrCat("cannot map token shard ", path));
  auto shard = FromMemory({static_cast<const std::byte*>(mapping), bytes}, path);
  if (!shard.ok()) {
    munmap(mapping, bytes);
    return shard;
  }
  shard->mapping_ = mapping;
  shard->mapping_bytes_ = bytes;
  return shard;
}

TokenShard::TokenShard(TokenShard&& other) noexcept { *this = std::move(other); }

TokenShard& TokenShard::operator=(TokenShard&& other) noexcept {
  if (this == &other) return *this;
  Unmap();
  mapping_ = std::exchange(other.mapping_, nullptr);
  mapping_bytes_ = std::exchange(other.mapping_bytes_, 0);
  row_tokens_ = other.row_tokens_;
  row_examples_ = other.row_examples_;
  starts_ = other.starts_;
  tokens_ = other.tokens_;
  learn_ = other.learn_;
  valid_tokens_ = other.valid_tokens_;
  max_length_ = other.max_length_;
  vocab_size_ = other.vocab_size_;
  return *this;
}

TokenShard::~TokenShard() { Unmap(); }

void TokenShard::Unmap() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
  mapping_ = nullptr;
}

TokenRow TokenShard::row(int64_t i) const {
  STUDIO_CHECK(i >= 0 && i < rows()) << "row " << i << " of " << rows();
  size_t first = row_tokens_[i], count = row_tokens_[i + 1] - first;
  size_t first_example = row_examples_[i], examples = row_examples_[i + 1] - first_example;
  return {tokens_.subspan(first, count), learn_.subspan(first, count), starts_.subspan(first_example, examples)};
}

}  // namespace studio
