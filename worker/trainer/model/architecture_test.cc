#include "worker/trainer/model/architecture.h"

#include <string>

#include "common/status/testing.h"
#include "worker/trainer/model/rope.h"

namespace studio {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string Config(const std::string& extra) {
  return R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 512)" +
         (extra.empty() ? "" : ", " + extra) + "}";
}

TEST(Architecture, FillsWhatTransformersFills) {
  ASSERT_OK_AND_ASSIGN(const Architecture arch, ParseArchitecture(Config(""), "config.json"));
  EXPECT_EQ(arch.num_kv_heads, 4);
  EXPECT_EQ(arch.head_dim, 16);
  EXPECT_EQ(arch.rope.kind, RopeKind::kDefault);
  EXPECT_EQ(arch.rope.theta, 10000);
  EXPECT_EQ(arch.rms_norm_eps, 1e-6);
  EXPECT_FALSE(arch.tie_word_embeddings || arch.qkv_bias || arch.o_bias || arch.mlp_bias);
  // 2 layers of 4·64² + 3·64·128 + 2·64, the norm, embeddings and head.
  EXPECT_EQ(arch.ParameterCount(), 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64 + 2 * 100 * 64);
}

TEST(Architecture, ReadsRopeInTheOldAndTheNewForm) {
  for (const char* form : {R"("rope_theta": 500000, "rope_scaling": {"type": "linear", "factor": 4})",
                           R"("rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 500000})"}) {
    ASSERT_OK_AND_ASSIGN(const Architecture arch, ParseArchitecture(Config(form), "config.json"));
    EXPECT_EQ(arch.rope.kind, RopeKind::kLinear);
    EXPECT_EQ(arch.rope.factor, 4);
    EXPECT_EQ(arch.rope.theta, 500000);
  }
  ASSERT_OK_AND_ASSIGN(const Architecture none, ParseArchitecture(Config(R"("rope_scaling": null)"), "config.json"));
  EXPECT_EQ(none.rope.kind, RopeKind::kDefault);
}

TEST(Architecture, FamiliesAreRows) {
  const auto parse = [](std::string text, const std::string& family) {
    text.replace(text.find("llama"), 5, family);
    return ParseArchitecture(text, "config.json");
  };
  ASSERT_OK_AND_ASSIGN(const Architecture qwen, parse(Config(""), "qwen2"));
  EXPECT_TRUE(qwen.qkv_bias);
  EXPECT_FALSE(qwen.o_bias);
  ASSERT_OK(parse(Config(R"("sliding_window": null)"), "mistral"));
  EXPECT_THAT(parse(Config(R"("sliding_window": 128)"), "mistral"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("sliding_window 128")));
  EXPECT_THAT(
      parse(Config(""), "gpt_neox"),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("'gpt_neox'"), HasSubstr("llama, mistral, qwen2"))));
}

struct BadConfig {
  const char* name;
  std::string text;
  const char* message;
};
class BadConfigTest : public testing::TestWithParam<BadConfig> {};
TEST_P(BadConfigTest, IsRefusedByKey) {
  EXPECT_THAT(
      ParseArchitecture(GetParam().text, "dir/config.json"),
      StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("dir/config.json"), HasSubstr(GetParam().message))));
}
INSTANTIATE_TEST_SUITE_P(
    Configs, BadConfigTest,
    testing::Values(BadConfig{"NotJson", "{", "not a JSON object"}, BadConfig{"List", "[]", "not a JSON object"},
                    BadConfig{"NoModelType", "{}", "model_type ''"},
                    BadConfig{"NoHiddenSize", R"({"model_type": "llama"})", "'hidden_size' is missing"},
                    BadConfig{"TextSize", Config(R"("vocab_size": "many")"), "'vocab_size' is \"many\""},
                    BadConfig{"NegativeSize", Config(R"("vocab_size": -1)"), "'vocab_size' is -1"},
                    BadConfig{"UnevenGroups", Config(R"("num_key_value_heads": 3)"), "num_key_value_heads 3"},
                    BadConfig{"OddHead", Config(R"("head_dim": 15)"), "head_dim 15"},
                    BadConfig{"Activation", Config(R"("hidden_act": "gelu")"), "'gelu'"},
                    BadConfig{"RopeKind", Config(R"("rope_scaling": {"rope_type": "longrope"})"), "'longrope'"},
                    BadConfig{"RopeFactor", Config(R"("rope_scaling": {"rope_type": "linear"})"), "'factor'"},
                    BadConfig{"RopeList", Config(R"("rope_parameters": [])"), "rope_parameters"},
                    BadConfig{"Bias", Config(R"("attention_bias": 1)"), "'attention_bias'"}),
    [](const testing::TestParamInfo<BadConfig>& info) { return info.param.name; });

TEST(Architecture, MissingFileIsNamed) {
  EXPECT_THAT(ReadArchitecture("/nowhere"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nowhere/config.json")));
}

TEST(Rope, DynamicGrowsBeyondTheContextAlone) {
  ASSERT_OK_AND_ASSIGN(const Architecture arch,
                       ParseArchitecture(Config(R"("rope_scaling": {"rope_type": "dynamic", "factor": 2})"), "c"));
  EXPECT_EQ(InverseFrequencies(arch, 10).inverse, InverseFrequencies(arch, 512).inverse);
  EXPECT_LT(InverseFrequencies(arch, 1024).inverse.back(), InverseFrequencies(arch, 512).inverse.back());
}

}  // namespace
}  // namespace studio
