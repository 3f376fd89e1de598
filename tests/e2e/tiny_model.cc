#include "tests/e2e/tiny_model.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kConfig[] = R"({
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "vocab_size": 260,
  "hidden_size": 32,
  "intermediate_size": 64,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "max_position_embeddings": 256,
  "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0,
  "hidden_act": "silu",
  "initializer_range": 0.05,
  "tie_word_embeddings": true,
  "bos_token_id": 1,
  "eos_token_id": 1,
  "torch_dtype": "float32"
})";

// GPT-2's table of a printable character for each byte, in UTF-8.
std::string ByteCharacter(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int code = byte;
  if (!printable(byte)) {
    code = 256;
    for (int b = 0; b < byte; ++b) code += !printable(b);
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

Json Tokenizer() {
  const char* const special[] = {"<|unk|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  Json added = Json::array(), vocabulary = Json::object();
  for (int id = 0; id < 4; ++id) {
    added.push_back({{"id", id},
                     {"content", special[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
    vocabulary[special[id]] = id;
  }
  for (int byte = 0; byte < 256; ++byte) vocabulary[ByteCharacter(byte)] = 4 + byte;
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocabulary},
            {"merges", Json::array()}}}};
}

}  // namespace

absl::Status WriteText(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream file(path, std::ios::binary);
  file << text;
  return file.flush() ? absl::OkStatus() : absl::InternalError(absl::StrCat(path, " cannot be written"));
}

absl::Status WriteTinyModel(const std::string& folder) {
  RETURN_IF_ERROR(WriteText(folder + "/config.json", kConfig));
  RETURN_IF_ERROR(WriteText(folder + "/tokenizer.json", Tokenizer().dump()));
  return WriteText(folder + "/tokenizer_config.json",
                   R"({"eos_token": "<|endoftext|>", "bos_token": "<|endoftext|>", "unk_token": "<|unk|>"})");
}

absl::Status WriteRows(const std::string& path, int rows) {
  std::string text;
  for (int i = 0; i < rows; ++i) {
    const int a = i % 7, b = i % 5;
    absl::StrAppend(
        &text, Json({{"instruction", absl::StrCat(a, " + ", b)}, {"output", absl::StrCat("is ", a + b)}}).dump(), "\n");
  }
  return WriteText(path, text);
}

}  // namespace studio
