#include "worker/data/example_maker.h"

#include <gtest/gtest.h>

#include <memory>

#include "common/status/testing.h"
#include "worker/data/testing_model.h"

namespace studio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ExampleMakerTest : public ::testing::Test {
 protected:
  void Load(const TestingModel& model) {
    const std::string folder = WriteTestingModel(NewFolder("model"), model);
    tokenizer_ = std::make_unique<Tokenizer>(*Tokenizer::Load(folder));
    chat_ = std::make_unique<ChatTemplate>(*ChatTemplate::Load(folder, *tokenizer_, ""));
  }
  absl::StatusOr<MadeExamples> Make(const Conversation& talk) {
    return ExampleMaker(*chat_, *tokenizer_, options_).Make(talk);
  }
  // Each example as text, the learnt part in brackets; then why something was dropped.
  std::vector<std::string> Show(const Conversation& talk) {
    auto made = Make(talk);
    EXPECT_OK(made);
    if (!made.ok()) return {};
    made_ = *made;
    std::vector<std::string> shown;
    for (const Example& example : made->examples) {
      EXPECT_EQ(example.tokens.size(), example.learn.size());
      std::string text;
      for (size_t i = 0; i < example.tokens.size(); ++i) {
        const bool before = i > 0 && example.learn[i - 1];
        if (before != (example.learn[i] != 0)) text += before ? "]" : "[";
        text += *tokenizer_->Decode({&example.tokens[i], 1}, false);
      }
      shown.push_back(text + (example.learn.back() ? "]" : ""));
    }
    if (!made->dropped.empty()) shown.push_back(made->dropped);
    return shown;
  }

  static Conversation Talk(std::initializer_list<std::pair<const char*, const char*>> messages) {
    Conversation talk;
    for (const auto& [role, content] : messages) {
      if (std::string(role) == "assistant") talk.answers.push_back(talk.messages.size());
      talk.messages.push_back({{"role", role}, {"content", content}});
    }
    return talk;
  }

  const Conversation hello_ = Talk({{"user", "Hi"}, {"assistant", "Yo"}});
  const Conversation two_ = Talk({{"user", "1"}, {"assistant", "A"}, {"user", "2"}, {"assistant", "B"}});
  ExampleOptions options_{.max_length = 512, .vocab_size = 259};
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<ChatTemplate> chat_;
  MadeExamples made_;
};

TEST_F(ExampleMakerTest, LearnsAnswersAndTheirEndOfTurn) {
  Load({});
  EXPECT_THAT(Show(hello_), ElementsAre("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Yo<|im_end|>\n]"));
  EXPECT_THAT(Show(two_), ElementsAre("<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\n[A<|im_end|>\n]"
                                      "<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\n[B<|im_end|>\n]"));
  EXPECT_EQ(made_.quirks, 0);
}

TEST_F(ExampleMakerTest, LearnsOnlyTheLastAnswerWhereAsked) {
  Load({});
  options_.only_last_answer = true;
  EXPECT_THAT(Show(two_), ElementsAre("<|im_start|>user\n1<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
                                      "<|im_start|>user\n2<|im_end|>\n<|im_start|>assistant\n[B<|im_end|>\n]"));
}

TEST_F(ExampleMakerTest, LearnsEverythingButTheFirstTokenWithoutAMask) {
  Load({});
  options_.mask_prompt_labels = false;
  EXPECT_THAT(Show(hello_), ElementsAre("<|im_start|>[user\nHi<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n]"));
}

TEST_F(ExampleMakerTest, KeepsTheBeginningOfLongExamples) {
  Load({});
  options_.max_length = 22;  // the prompt has 21 tokens
  EXPECT_THAT(Show(hello_), ElementsAre("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Y]"))
      << made_.truncated;
  EXPECT_EQ(made_.truncated, 1);
}

TEST_F(ExampleMakerTest, DropsWhatHasNoLabelLeft) {
  Load({});
  options_.max_length = 20;
  EXPECT_THAT(Show(hello_), ElementsAre("no label left after truncation"));
  EXPECT_EQ(made_.truncated, 0);
}

// As Qwen3 drops the reasoning of earlier turns.
TEST_F(ExampleMakerTest, MakesAnExampleOfEachAnswerWhereHistoryIsRewritten) {
  Load({.chat_template = "{% for m in messages %}{{ m.role[0] }}:{% if m.role == 'assistant' and loop.last %}"
                         "<think>{% endif %}{{ m.content }};{% endfor %}{% if add_generation_prompt %}a:{% endif %}"});
  EXPECT_THAT(Show(two_), ElementsAre("u:1;a:[<think>A;]", "u:1;a:A;u:2;a:[<think>B;]"));
  EXPECT_EQ(made_.quirks, kRewritesHistory);
  EXPECT_THAT(Show(hello_), ElementsAre("u:Hi;a:[<think>Yo;]"));
  EXPECT_EQ(made_.quirks, 0) << "one turn is as it will be asked for";
}

TEST_F(ExampleMakerTest, LearnsFromTheTurnBeforeWhereTheGenerationPromptIsOdd) {
  Load({.chat_template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
                         "{% if add_generation_prompt %}answer now: {% endif %}"});
  EXPECT_THAT(Show(hello_), ElementsAre("u:Hi;[a:Yo;]"));
  EXPECT_EQ(made_.quirks, kOddGenerationPrompt);
}

TEST_F(ExampleMakerTest, DropsConversationsWhoseTextBeforeAnAnswerChanges) {
  Load({.chat_template = "{{ messages | length }}{% for m in messages %}{{ m.content }};{% endfor %}"});
  EXPECT_THAT(Show(hello_), ElementsAre("the chat template rewrites what comes before an answer"));
}

TEST_F(ExampleMakerTest, DropsWhatTheTemplateRefuses) {
  Load({.chat_template = "{{ raise_exception('roles must alternate') }}"});
  EXPECT_THAT(Show(hello_), ElementsAre("the chat template refused the conversation"));
  EXPECT_THAT(made_.dropped_detail, HasSubstr("roles must alternate"));
}

TEST_F(ExampleMakerTest, NoticesAnAnswerWithoutAnEnd) {
  Load({.chat_template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{% endfor %}"
                         "{% if add_generation_prompt %}assistant:{% endif %}"});
  EXPECT_THAT(Show(hello_), ElementsAre("u:Hi[a:Yo]"));
  EXPECT_EQ(made_.quirks, kNoEndOfTurn | kOddGenerationPrompt);
}

TEST_F(ExampleMakerTest, LearnsAnAnswerThatNothingPrecedes) {
  Load({.chat_template = "{{ messages[0].role }}{% for m in messages %}:{{ m.content }};{% endfor %}"});
  EXPECT_THAT(Show(Talk({{"assistant", "Welcome"}})), ElementsAre("a[ssistant:Welcome;]"));
}

// Encoded apart, "Yo" would get a "▁" that the model never sees before an answer.
TEST_F(ExampleMakerTest, TokenizesTheTextAtOnceWhereTheStartOfATextIsSpecial) {
  Load({.chat_template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
                         "{% if add_generation_prompt %}a:{% endif %}",
        .metaspace = true});
  auto made = Make(hello_);
  ASSERT_OK(made);
  ASSERT_EQ(made->examples.size(), 1);
  ASSERT_OK_AND_ASSIGN(std::vector<uint32_t> whole, tokenizer_->Encode("u:Hi;a:Yo;"));
  EXPECT_EQ(made->examples[0].tokens, whole);
  EXPECT_EQ(whole.size(), 11) << "one blank more than bytes";
  EXPECT_THAT(made->examples[0].learn, ElementsAre(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1));
}

TEST_F(ExampleMakerTest, RefusesTokensThatTheModelDoesNotKnow) {
  Load({});
  options_.vocab_size = 200;
  EXPECT_THAT(Make(hello_), StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("token 256, but config.json's vocab_size is 200")));
}

}  // namespace
}  // namespace studio
