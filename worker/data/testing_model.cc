#include "worker/data/testing_model.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "common/status/check.h"
#include "worker/data/file_io.h"
#include "worker/data/json_file.h"

namespace studio {
namespace {

std::string Utf8(uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// GPT-2's letters for bytes: printable ones stand for themselves, the others for letters from U+0100 on.
std::string ByteLetter(int byte, int* hidden) {
  const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  return Utf8(printable ? byte : 256 + (*hidden)++);
}

Json AddedToken(uint32_t id, const char* text) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json ByteLevelTokenizer() {
  Json vocab = Json::object();
  int hidden = 0;
  for (int byte = 0; byte < 256; ++byte) vocab[ByteLetter(byte, &hidden)] = byte;
  const Json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", {{"direction", "Right"}, {"max_length", 4}, {"strategy", "LongestFirst"}, {"stride", 0}}},
          {"padding", nullptr},
          {"added_tokens", Json::array({AddedToken(kImStart, "<|im_start|>"), AddedToken(kImEnd, "<|im_end|>"),
                                        AddedToken(kBos, "<s>")})},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocab},
            {"merges", Json::array()}}}};
}

// Letters as tokens (their ASCII codes), "▁" as 32, everything else by byte fallback is left out: tests stay with
// ASCII.
Json MetaspaceTokenizer() {
  Json tokenizer = ByteLevelTokenizer();
  Json vocab = Json::object();
  for (int byte = 0; byte < 128; ++byte)
    vocab[byte == 32 ? "\xE2\x96\x81" : std::string(1, static_cast<char>(byte))] = byte;
  tokenizer["model"]["vocab"] = vocab;
  const Json metaspace = {
      {"type", "Metaspace"}, {"replacement", "\xE2\x96\x81"}, {"prepend_scheme", "always"}, {"split", true}};
  tokenizer["pre_tokenizer"] = metaspace;
  tokenizer["decoder"] = metaspace;
  return tokenizer;
}

void Write(const std::string& path, const Json& json) {
  STUDIO_CHECK(dataprep::WriteFile(path, Dump(json)).ok()) << path;
}

}  // namespace

std::string WriteTestingModel(const std::string& folder, const TestingModel& model) {
  STUDIO_CHECK(MakeFolders(folder).ok()) << folder;
  Write(folder + "/config.json", {{"model_type", "llama"},
                                  {"vocab_size", model.vocab_size},
                                  {"max_position_embeddings", model.context},
                                  {"eos_token_id", kImEnd}});
  Write(folder + "/tokenizer.json", model.metaspace ? MetaspaceTokenizer() : ByteLevelTokenizer());
  Json config = {{"bos_token", "<s>"}, {"eos_token", {{"content", "<|im_end|>"}}}, {"pad_token", "<|im_end|>"}};
  if (!model.chat_template.empty()) config["chat_template"] = model.chat_template;
  Write(folder + "/tokenizer_config.json", config);
  return folder;
}

std::string NewFolder(const std::string& name) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const std::string folder = testing::TempDir() + "/" + test->test_suite_name() + "." + test->name() + "." + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

}  // namespace studio
