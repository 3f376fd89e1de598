// For tests: a model folder with a tokenizer small enough to foresee its ids.
//
//   const std::string model = WriteTestingModel(dir, {.context = 64});
//
// Token b (0 to 255) is the byte b; then come <|im_start|> (256), <|im_end|> (257, EOS and PAD) and <s> (258, BOS).
#pragma once

#include <cstdint>
#include <string>

namespace studio {

inline constexpr uint32_t kImStart = 256;
inline constexpr uint32_t kImEnd = 257;
inline constexpr uint32_t kBos = 258;

struct TestingModel {
  int context = 512;
  int vocab_size = 259;
  // Jinja; empty: none in tokenizer_config.json.
  std::string chat_template;
  // As SentencePiece's: "▁" for a blank, and one before the first word, so that texts cannot be joined piece by piece.
  bool metaspace = false;
};

// Writes config.json, tokenizer.json and tokenizer_config.json; returns the folder.
std::string WriteTestingModel(const std::string& folder, const TestingModel& model = {});

// A new, empty folder of this test.
std::string NewFolder(const std::string& name);

}  // namespace studio
