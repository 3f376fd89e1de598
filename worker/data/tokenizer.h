// A Hugging Face tokenizer: the files of a model folder, the Rust crate's ids.
//
//   ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load("/models/smollm2"));
//   ASSIGN_OR_RETURN(std::vector<uint32_t> ids, tokenizer.Encode("Hello"));
//   ASSIGN_OR_RETURN(std::string text, tokenizer.Decode(ids));
//
// Reads tokenizer.json and, where they exist, tokenizer_config.json, special_tokens_map.json, config.json and
// generation_config.json for the special tokens. Const methods are thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

struct hf_tokenizer;  // third_party/hf

namespace studio {

// A token that has a role: its text, as chat templates want it, and its id where the vocabulary has it.
struct SpecialToken {
  std::string text;
  std::optional<uint32_t> id;
};

class Tokenizer {
 public:
  // NotFound without tokenizer.json, InvalidArgument where a file is not what it should be.
  static absl::StatusOr<Tokenizer> Load(const std::string& model_dir);

  // add_special_tokens: what the tokenizer adds around a text by itself (BOS, EOS). Chat templates write them, so
  // rendered conversations are encoded without. Text must be UTF-8.
  absl::StatusOr<std::vector<uint32_t>> Encode(absl::string_view text, bool add_special_tokens = false) const;

  // In the order of `texts`, on up to `threads` threads.
  absl::StatusOr<std::vector<std::vector<uint32_t>>> EncodeBatch(std::span<const std::string> texts, int threads,
                                                                 bool add_special_tokens = false) const;

  absl::StatusOr<std::string> Decode(std::span<const uint32_t> ids, bool skip_special_tokens = true) const;

  // Largest id + 1, added tokens included.
  int64_t vocab_size() const { return vocab_size_; }
  std::optional<uint32_t> TokenId(absl::string_view token) const;

  const SpecialToken& bos() const { return bos_; }
  const SpecialToken& eos() const { return eos_; }
  const SpecialToken& pad() const { return pad_; }
  const SpecialToken& unk() const { return unk_; }
  // Ids that end a generation: eos and what generation_config.json and config.json add. Sorted.
  const std::vector<uint32_t>& stop_ids() const { return stop_ids_; }

  // SHA-256 of tokenizer.json.
  const std::string& sha256() const { return sha256_; }

 private:
  struct Free {
    void operator()(hf_tokenizer* tokenizer) const;
  };
  Tokenizer() = default;
  absl::Status LoadSpecialTokens(const std::string& model_dir);
  absl::Status AddStopIds(const std::string& path);

  std::unique_ptr<hf_tokenizer, Free> handle_;
  int64_t vocab_size_ = 0;
  SpecialToken bos_, eos_, pad_, unk_;
  std::vector<uint32_t> stop_ids_;
  std::string sha256_;
};

}  // namespace studio
