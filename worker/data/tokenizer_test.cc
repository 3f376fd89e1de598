#include "worker/data/tokenizer.h"

#include <gtest/gtest.h>

#include "common/status/testing.h"
#include "third_party/hf/hf_capi.h"
#include "worker/data/file_io.h"
#include "worker/data/testing_model.h"

namespace studio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

TEST(TokenizerTest, EncodesAndDecodes) {
  ASSERT_OK_AND_ASSIGN(Tokenizer tokenizer, Tokenizer::Load(WriteTestingModel(NewFolder("model"))));
  ASSERT_OK_AND_ASSIGN(std::vector<uint32_t> ids, tokenizer.Encode("<|im_start|>né<|im_end|>"));
  EXPECT_THAT(ids, ElementsAre(kImStart, 'n', 0xC3, 0xA9, kImEnd));
  ASSERT_OK_AND_ASSIGN(std::string text, tokenizer.Decode(ids));
  EXPECT_EQ(text, "né");
  ASSERT_OK_AND_ASSIGN(std::string whole, tokenizer.Decode(ids, /*skip_special_tokens=*/false));
  EXPECT_EQ(whole, "<|im_start|>né<|im_end|>");
}

TEST(TokenizerTest, IgnoresTheTruncationThatAFileWasSavedWith) {
  ASSERT_OK_AND_ASSIGN(Tokenizer tokenizer, Tokenizer::Load(WriteTestingModel(NewFolder("model"))));
  ASSERT_OK_AND_ASSIGN(std::vector<uint32_t> ids, tokenizer.Encode("longer than four"));
  EXPECT_EQ(ids.size(), 16);
}

TEST(TokenizerTest, KeepsNulBytesAndEmptyTexts) {
  ASSERT_OK_AND_ASSIGN(Tokenizer tokenizer, Tokenizer::Load(WriteTestingModel(NewFolder("model"))));
  ASSERT_OK_AND_ASSIGN(std::vector<uint32_t> ids, tokenizer.Encode(absl::string_view("a\0b", 3)));
  EXPECT_THAT(ids, ElementsAre('a', 0, 'b'));
  ASSERT_OK_AND_ASSIGN(std::string text, tokenizer.Decode(ids));
  EXPECT_EQ(text, std::string("a\0b", 3));
  ASSERT_OK_AND_ASSIGN(std::vector<uint32_t> none, tokenizer.Encode(""));
  EXPECT_THAT(none, ElementsAre());
  ASSERT_OK_AND_ASSIGN(std::string empty, tokenizer.Decode({}));
  EXPECT_EQ(empty, "");
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8) {
  ASSERT_OK_AND_ASSIGN(Tokenizer tokenizer, Tokenizer::Load(WriteTestingModel(NewFolder("model"))));
  EXPECT_THAT(tokenizer.Encode("caf\xE9"), StatusIs(kInvalid, HasSubstr("utf-8")));
}

TEST(TokenizerTest, KnowsItsSpecialTokens) {
  ASSERT_OK_AND_ASSIGN(Tokenizer tokenizer, Tokenizer::Load(WriteTestingModel(NewFolder("model"))));
  EXPECT_EQ(tokenizer.vocab_size(), 259);
  EXPECT_EQ(tokenizer.bos().text, "<s>");
  EXPECT_EQ(tokenizer.bos().id, kBos);
  EXPECT_EQ(tokenizer.eos().text, "<|im_end|>");
  EXPECT_EQ(tokenizer.pad().id, kImEnd);
  EXPECT_EQ(tokenizer.unk().id, std::nullopt);
  EXPECT_THAT(tokenizer.stop_ids(), ElementsAre(kImEnd));
}

TEST(TokenizerTest, TakesStopTokensFromTheGenerationConfigAndTokensFromTheMap) {
  const std::string model = WriteTestingModel(NewFolder("model"));
  ASSERT_OK(dataprep::WriteFile(model + "/generation_config.json", R"({"eos_token_id": [7, 257]})"));
  ASSERT_OK(dataprep::WriteFile(model + "/special_tokens_map.json", R"({"unk_token": "q", "bos_token": "x"})"));
  ASSERT_OK_AND_ASSIGN(Tokenizer tokenizer, Tokenizer::Load(model));
  EXPECT_THAT(tokenizer.stop_ids(), ElementsAre(7, kImEnd));
  EXPECT_EQ(tokenizer.unk().id, 'q');
  EXPECT_EQ(tokenizer.bos().text, "<s>") << "tokenizer_config.json comes first";
}

TEST(TokenizerTest, GivesBatchesInOrderWhateverTheThreads) {
  ASSERT_OK_AND_ASSIGN(Tokenizer tokenizer, Tokenizer::Load(WriteTestingModel(NewFolder("model"))));
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i) texts.push_back(std::string(i % 7, 'a') + std::to_string(i));
  ASSERT_OK_AND_ASSIGN(auto one, tokenizer.EncodeBatch(texts, 1));
  ASSERT_OK_AND_ASSIGN(auto four, tokenizer.EncodeBatch(texts, 4));
  EXPECT_EQ(one, four);
  texts[200] = "\xFF";
  EXPECT_THAT(tokenizer.EncodeBatch(texts, 4), StatusIs(kInvalid, HasSubstr("utf-8")));
}

TEST(TokenizerTest, SaysWhatIsWrongWithAModelFolder) {
  const std::string model = WriteTestingModel(NewFolder("model"));
  EXPECT_THAT(Tokenizer::Load(NewFolder("empty")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("tokenizer.json")));
  ASSERT_OK(dataprep::WriteFile(model + "/tokenizer_config.json", "[1]"));
  EXPECT_THAT(Tokenizer::Load(model), StatusIs(kInvalid, HasSubstr("tokenizer_config.json: holds a list")));
  ASSERT_OK(dataprep::WriteFile(model + "/tokenizer_config.json", "{"));
  EXPECT_THAT(Tokenizer::Load(model), StatusIs(kInvalid, HasSubstr("tokenizer_config.json: not JSON")));
  ASSERT_OK(dataprep::WriteFile(model + "/tokenizer_config.json", "{}"));
  ASSERT_OK(dataprep::WriteFile(model + "/generation_config.json", R"({"eos_token_id": "x"})"));
  EXPECT_THAT(Tokenizer::Load(model), StatusIs(kInvalid, HasSubstr("eos_token_id is \"x\"")));
  for (const char* text : {"", "no JSON", "{}", R"({"model": {"type": "BPE"}})", "\xFF\xFE"}) {
    ASSERT_OK(dataprep::WriteFile(model + "/tokenizer.json", text));
    EXPECT_THAT(Tokenizer::Load(model), StatusIs(kInvalid, HasSubstr("tokenizer.json: not a tokenizer file"))) << text;
  }
}

// The border itself: what a careless caller might pass.
TEST(HfCapiTest, TakesNullPointersWhereTheLengthIsZero) {
  hf_bytes error{};
  EXPECT_EQ(hf_tokenizer_from_json(nullptr, 0, &error), nullptr);
  EXPECT_GT(error.size, 0);
  hf_bytes_free(error);
  EXPECT_EQ(hf_tokenizer_from_json("{", 1, nullptr), nullptr) << "nobody wants the message";
  hf_ids ids{};
  hf_bytes no_object{};
  EXPECT_FALSE(hf_tokenizer_encode(nullptr, "a", 1, false, &ids, &no_object));
  EXPECT_GT(no_object.size, 0);
  hf_bytes_free(no_object);
  hf_tokenizer_free(nullptr);
  hf_template_free(nullptr);
  hf_bytes_free(hf_bytes{nullptr, 0});
  hf_ids_free(hf_ids{nullptr, 0});
}

}  // namespace
}  // namespace studio
