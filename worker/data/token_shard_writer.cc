#include "worker/data/token_shard_writer.h"

#include <utility>

#include "common/artifact/sha256.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "worker/data/file_io.h"
#include "worker/data/token_shard_layout.h"

namespace studio {
namespace {

// Writes sections one after another, with zeros up to each one's place, and hashes what it writes.
class SectionWriter {
 public:
  explicit SectionWriter(dataprep::FileWriter& file) : file_(file) {}

  template <typename T>
  absl::Status Write(uint64_t offset, std::span<const T> values) {
    static constexpr char kZeros[8] = {};
    STUDIO_CHECK(offset >= written_ && offset - written_ < sizeof(kZeros)) << offset << " after " << written_;
    RETURN_IF_ERROR(Append({kZeros, offset - written_}));
    return Append({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  }
  std::string Hash() { return hash_.Raw(); }

 private:
  absl::Status Append(absl::string_view bytes) {
    hash_.Update(bytes);
    written_ += bytes.size();
    return file_.Append(bytes);
  }
  dataprep::FileWriter& file_;
  Sha256 hash_;
  uint64_t written_ = 0;
};

}  // namespace

TokenShardWriter::TokenShardWriter(std::string path, int64_t max_length, int64_t vocab_size)
    : path_(std::move(path)), max_length_(max_length), vocab_size_(vocab_size) {}

void TokenShardWriter::BeginRow() {
  STUDIO_CHECK(row_tokens_.empty() || row_tokens_.back() < tokens_.size()) << "a row without an example";
  row_tokens_.push_back(tokens_.size());
  row_examples_.push_back(starts_.size());
}

void TokenShardWriter::AddExample(std::span<const uint32_t> tokens, std::span<const uint8_t> learn) {
  STUDIO_CHECK(!row_tokens_.empty()) << "AddExample before BeginRow";
  STUDIO_CHECK(!tokens.empty() && tokens.size() == learn.size()) << tokens.size() << " and " << learn.size();
  const size_t start = tokens_.size() - row_tokens_.back();
  STUDIO_CHECK(start + tokens.size() <= static_cast<size_t>(max_length_)) << "a row above " << max_length_;
  starts_.push_back(static_cast<uint32_t>(start));
  for (size_t i = 0; i < tokens.size(); ++i) {
    STUDIO_CHECK(tokens[i] < vocab_size_ && learn[i] <= 1) << tokens[i] << " " << int{learn[i]};
    const uint8_t label = i == 0 ? 0 : learn[i];
    tokens_.push_back(tokens[i]);
    learn_.push_back(label);
    valid_tokens_ += label;
  }
}

absl::Status TokenShardWriter::Finish() {
  token_shard::Header header{};
  std::memcpy(header.magic, token_shard::kMagic, sizeof(header.magic));
  header.version = token_shard::kVersion;
  header.byte_order = token_shard::kByteOrder;
  header.rows = row_tokens_.size();
  header.examples = starts_.size();
  header.tokens = tokens_.size();
  header.valid_tokens = valid_tokens_;
  header.max_length = max_length_;
  header.vocab_size = vocab_size_;
  row_tokens_.push_back(tokens_.size());
  row_examples_.push_back(starts_.size());
  const token_shard::Layout layout = token_shard::LayoutOf(header.rows, header.examples, header.tokens);

  ASSIGN_OR_RETURN(dataprep::FileWriter file, dataprep::FileWriter::Create(path_));
  SectionWriter sections(file);
  RETURN_IF_ERROR(sections.Write(0, std::span<const token_shard::Header>(&header, 1)));
  RETURN_IF_ERROR(sections.Write(layout.row_tokens, std::span<const uint64_t>(row_tokens_)));
  RETURN_IF_ERROR(sections.Write(layout.row_examples, std::span<const uint64_t>(row_examples_)));
  RETURN_IF_ERROR(sections.Write(layout.starts, std::span<const uint32_t>(starts_)));
  RETURN_IF_ERROR(sections.Write(layout.tokens, std::span<const uint32_t>(tokens_)));
  RETURN_IF_ERROR(sections.Write(layout.learn, std::span<const uint8_t>(learn_)));
  RETURN_IF_ERROR(sections.Write(layout.checksum, std::span<const char>()));  // the zeros before it are hashed too
  RETURN_IF_ERROR(file.Append(sections.Hash()));
  return file.SyncAndClose();
}

}  // namespace studio
