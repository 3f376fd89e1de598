#include "worker/data/chat_template.h"

#include <gtest/gtest.h>

#include "common/status/testing.h"
#include "worker/data/file_io.h"
#include "worker/data/testing_model.h"

namespace studio {
namespace {

using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

class ChatTemplateTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Render(const std::string& source, const Json& messages, bool prompt = false,
                                     const Json& tools = Json()) {
    auto tokenizer = Tokenizer::Load(model_);
    EXPECT_OK(tokenizer);
    auto chat = ChatTemplate::Load(model_, *tokenizer, source);
    if (!chat.ok()) return chat.status();
    origin_ = chat->origin();
    return chat->Render(messages, tools, prompt);
  }
  std::string MustRender(const std::string& source, const Json& messages, bool prompt = false, const Json& tools = {}) {
    auto text = Render(source, messages, prompt, tools);
    EXPECT_OK(text);
    return text.ok() ? *text : "";
  }

  const std::string model_ = WriteTestingModel(NewFolder("model"));
  const Json hello_ = Json::array({{{"role", "user"}, {"content", "Hi"}}, {{"role", "assistant"}, {"content", "Yo"}}});
  std::string origin_;
};

TEST_F(ChatTemplateTest, FallsBackToChatMl) {
  EXPECT_EQ(MustRender("", hello_), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n");
  EXPECT_EQ(MustRender("", Json::array({hello_[0]}), true), "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_THAT(origin_, HasSubstr("ChatML"));
}

TEST_F(ChatTemplateTest, TakesTheModelsTemplateInOrder) {
  ASSERT_OK(dataprep::WriteFile(model_ + "/tokenizer_config.json",
                                R"({"chat_template": [{"name": "tool_use", "template": "tools"},
                                                      {"name": "default", "template": "default"}]})"));
  EXPECT_EQ(MustRender("", hello_), "default");
  ASSERT_OK(dataprep::WriteFile(model_ + "/tokenizer_config.json", R"({"chat_template": "text"})"));
  EXPECT_EQ(MustRender("", hello_), "text");
  ASSERT_OK(dataprep::WriteFile(model_ + "/chat_template.jinja", "file"));
  EXPECT_EQ(MustRender("", hello_), "file");
  EXPECT_EQ(MustRender("job", hello_), "job");
}

TEST_F(ChatTemplateTest, GivesTemplatesTheSpecialTokens) {
  EXPECT_EQ(MustRender("{{ bos_token }}|{{ eos_token }}|{{ unk_token is defined }}", hello_), "<s>|<|im_end|>|False");
}

TEST_F(ChatTemplateTest, PassesOnWhatATemplateRefuses) {
  EXPECT_THAT(Render("{{ raise_exception('System role not supported') }}", hello_),
              StatusIs(kInvalid, HasSubstr("System role not supported")));
}

TEST_F(ChatTemplateTest, SaysWhereATemplateIsNotJinja) {
  EXPECT_THAT(Render("one\n{% if %}", hello_), StatusIs(kInvalid, HasSubstr("chat:2")));
}

TEST_F(ChatTemplateTest, WritesJsonAsPythonDoes) {
  const Json tools = Json::array({{{"name", "a<b"}, {"list", {1, 2.5, true, nullptr}}, {"é", Json::object()}}});
  EXPECT_EQ(MustRender("{{ tools | tojson }}", hello_, false, tools),
            R"([{"name": "a<b", "list": [1, 2.5, true, null], "é": {}}])");
  EXPECT_EQ(MustRender("{{ tools | tojson(indent=2) }}", hello_, false, Json::array({{{"a", {1}}}})),
            "[\n  {\n    \"a\": [\n      1\n    ]\n  }\n]");
  EXPECT_EQ(MustRender("{{ 'é😀' | tojson(ensure_ascii=true) }}", hello_), R"("\u00e9\ud83d\ude00")");
  EXPECT_EQ(MustRender("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}", hello_),
            R"({"a":2,"b":1})");
}

TEST_F(ChatTemplateTest, PrintsPythonsNames) {
  EXPECT_EQ(MustRender("{{ add_generation_prompt }} {{ tools }} {{ missing }}|", hello_, true), "True None |");
}

TEST_F(ChatTemplateTest, RendersGenerationBlocksAsTheirBody) {
  EXPECT_EQ(
      MustRender("{% for m in messages %}{%- generation -%} {{ m.content }} {%- endgeneration %}{% endfor %}", hello_),
      "HiYo");
}

TEST_F(ChatTemplateTest, KnowsPythonsMethodsAndLoopControls) {
  EXPECT_EQ(MustRender("{% for m in messages %}{{ m['content'].strip().upper() }}{% break %}{% endfor %}"
                       "{{ messages[-1].get('role') }}{{ messages[::-1][0].content }}",
                       hello_),
            "HIassistantYo");
}

TEST_F(ChatTemplateTest, LeavesTheDateToTheTemplate) {
  EXPECT_EQ(MustRender("{% if strftime_now is defined %}now{% else %}26 Jul 2024{% endif %}", hello_), "26 Jul 2024");
}

}  // namespace
}  // namespace studio
