#include "worker/data/token_shard.h"

#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <cstring>
#include <filesystem>
#include <utility>

#include "common/status/testing.h"
#include "worker/data/file_io.h"
#include "worker/data/token_shard_layout.h"
#include "worker/data/token_shard_writer.h"

namespace studio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string TempPath(const std::string& name) { return testing::TempDir() + "/" + name; }

// Two rows: [10 11 12 | 20 21] and [30 31].
std::string WriteSmallShard(const std::string& name) {
  const std::string path = TempPath(name);
  TokenShardWriter writer(path, 8, 100);
  writer.BeginRow();
  writer.AddExample(std::vector<uint32_t>{10, 11, 12}, std::vector<uint8_t>{0, 0, 1});
  writer.AddExample(std::vector<uint32_t>{20, 21}, std::vector<uint8_t>{1, 1});
  writer.BeginRow();
  writer.AddExample(std::vector<uint32_t>{30, 31}, std::vector<uint8_t>{0, 1});
  EXPECT_OK(writer.Finish());
  return path;
}

// The shard's bytes, aligned, to be damaged and read back with the checksum made right again.
struct Bytes {
  explicit Bytes(const std::string& path) {
    std::string text = *dataprep::ReadFile(path, 1 << 20);
    words.resize((text.size() + 7) / 8);
    size = text.size();
    std::memcpy(words.data(), text.data(), size);
  }
  unsigned char* data() { return reinterpret_cast<unsigned char*>(words.data()); }
  token_shard::Header& header() { return *reinterpret_cast<token_shard::Header*>(words.data()); }
  token_shard::Layout layout() { return token_shard::LayoutOf(2, 3, 7); }
  template <typename T>
  T& at(uint64_t offset, int index) {
    return reinterpret_cast<T*>(data() + offset)[index];
  }
  absl::StatusOr<TokenShard> Read() {
    return TokenShard::FromMemory({reinterpret_cast<const std::byte*>(data()), size}, "shard");
  }
  absl::StatusOr<TokenShard> SealAndRead() {
    SHA256(data(), size - 32, data() + size - 32);
    return Read();
  }
  std::vector<uint64_t> words;
  size_t size;
};

TEST(TokenShardTest, GivesBackRowsThatWereWritten) {
  ASSERT_OK_AND_ASSIGN(TokenShard opened, TokenShard::Open(WriteSmallShard("roundtrip.tok")));
  TokenShard shard = std::move(opened);
  EXPECT_EQ(shard.rows(), 2);
  EXPECT_EQ(shard.examples(), 3);
  EXPECT_EQ(shard.tokens(), 7);
  EXPECT_EQ(shard.valid_tokens(), 3);
  EXPECT_EQ(shard.max_length(), 8);
  EXPECT_EQ(shard.vocab_size(), 100);
  EXPECT_THAT(shard.row(0).tokens, ElementsAre(10, 11, 12, 20, 21));
  EXPECT_THAT(shard.row(0).learn, ElementsAre(0, 0, 1, 0, 1)) << "the first token of an example is never learnt";
  EXPECT_THAT(shard.row(0).starts, ElementsAre(0, 3));
  EXPECT_THAT(shard.row(1).tokens, ElementsAre(30, 31));
  EXPECT_THAT(shard.row(1).starts, ElementsAre(0));
}

TEST(TokenShardTest, SaysThatTheFileIsMissing) {
  EXPECT_THAT(TokenShard::Open(TempPath("absent.tok")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent.tok")));
}

TEST(TokenShardTest, RefusesEveryTruncation) {
  const std::string path = WriteSmallShard("truncated.tok");
  const std::string whole = *dataprep::ReadFile(path, 1 << 20);
  for (size_t size = 0; size < whole.size(); ++size) {
    ASSERT_OK(dataprep::WriteFile(path, absl::string_view(whole).substr(0, size)));
    ASSERT_THAT(TokenShard::Open(path), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not a valid token shard")))
        << size << " bytes";
  }
}

TEST(TokenShardTest, RefusesEveryFlippedBit) {
  Bytes bytes(WriteSmallShard("flipped.tok"));
  for (size_t i = 0; i < bytes.size * 8; ++i) {
    bytes.data()[i / 8] ^= 1 << (i % 8);
    ASSERT_FALSE(bytes.Read().ok()) << "bit " << i;
    bytes.data()[i / 8] ^= 1 << (i % 8);
  }
  EXPECT_OK(bytes.Read());
}

TEST(TokenShardTest, RefusesContradictionsUnderARightChecksum) {
  struct Case {
    const char* name;
    void (*damage)(Bytes&);
    const char* message;
  };
  const Case cases[] = {
      {"version", [](Bytes& b) { b.header().version = 2; }, "version 2"},
      {"byte order", [](Bytes& b) { b.header().byte_order = 0x04030201; }, "byte order"},
      {"rows that wrap", [](Bytes& b) { b.header().rows = ~uint64_t{0}; }, "a count of"},
      {"rows", [](Bytes& b) { b.header().rows = 1; }, "header promises"},
      {"row longer than max_length", [](Bytes& b) { b.header().max_length = 4; }, "row 0 has 5 tokens"},
      {"token outside the vocabulary", [](Bytes& b) { b.header().vocab_size = 31; }, "token 31"},
      {"learnt count", [](Bytes& b) { b.header().valid_tokens = 2; }, "3 learnt tokens"},
      {"row offsets", [](Bytes& b) { b.at<uint64_t>(b.layout().row_tokens, 1) = 7; }, "token offsets"},
      {"row offset past the end", [](Bytes& b) { b.at<uint64_t>(b.layout().row_tokens, 1) = 1000; }, "token offsets"},
      {"example offsets", [](Bytes& b) { b.at<uint64_t>(b.layout().row_examples, 0) = 1; }, "example offsets"},
      {"start past the row", [](Bytes& b) { b.at<uint32_t>(b.layout().starts, 1) = 5; }, "example starts of row 0"},
      {"first start", [](Bytes& b) { b.at<uint32_t>(b.layout().starts, 2) = 1; }, "example starts of row 1"},
      {"first token learnt", [](Bytes& b) { b.at<uint8_t>(b.layout().learn, 3) = 1; }, "no predecessor"},
      {"learn byte", [](Bytes& b) { b.at<uint8_t>(b.layout().learn, 1) = 2; }, "learn byte of 2"},
      {"padding", [](Bytes& b) { b.at<uint8_t>(b.layout().learn, 7) = 1; }, "between two sections"},
  };
  const std::string path = WriteSmallShard("contradiction.tok");
  for (const Case& test : cases) {
    Bytes bytes(path);
    test.damage(bytes);
    EXPECT_THAT(bytes.SealAndRead(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(test.message))) << test.name;
  }
}

TEST(TokenShardTest, KeepsAnEmptyShard) {
  const std::string path = TempPath("empty.tok");
  ASSERT_OK(TokenShardWriter(path, 8, 100).Finish());
  ASSERT_OK_AND_ASSIGN(TokenShard shard, TokenShard::Open(path));
  EXPECT_EQ(shard.rows(), 0);
}

}  // namespace
}  // namespace studio
