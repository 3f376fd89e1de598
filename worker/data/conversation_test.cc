#include "worker/data/conversation.h"

#include <gtest/gtest.h>

#include "common/status/testing.h"
#include "worker/data/message_list.h"

namespace studio {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

Row MakeRow(const char* json) { return {*ParseJson(json, "f:3"), "f:3"}; }

absl::StatusOr<std::optional<Conversation>> Parse(const v1::Dataset& dataset, const char* json) {
  RowFormat format(dataset);
  const Row row = MakeRow(json);
  EXPECT_OK(format.Begin(row));
  return format.Parse(row);
}

// "role: content" of each message, "*" before answers; "none" for a row without.
std::string Story(const absl::StatusOr<std::optional<Conversation>>& talk) {
  EXPECT_OK(talk);
  if (!talk.ok() || !talk->has_value()) return "none";
  std::string story;
  for (size_t i = 0; i < (*talk)->messages.size(); ++i) {
    const Json& message = (*talk)->messages[i];
    const auto& answers = (*talk)->answers;
    if (std::find(answers.begin(), answers.end(), i) != answers.end()) story += "*";
    story += message["role"].get<std::string>() + ": " +
             (message["content"].is_string() ? message["content"].get<std::string>() : Dump(message["content"])) + "; ";
  }
  return story;
}

TEST(ColumnsTest, ReadsAlpaca) {
  EXPECT_EQ(Story(Parse({}, R"({"instruction": "Do", "input": "this", "output": "Done"})")),
            "user: Do\n\nthis; *assistant: Done; ");
  EXPECT_EQ(Story(Parse({}, R"({"instruction": "Do", "input": "", "output": "Done", "system": "Be"})")),
            "system: Be; user: Do; *assistant: Done; ");
}

TEST(ColumnsTest, ReadsTheColumnsThatTheJobNames) {
  v1::Dataset dataset;
  dataset.add_prompt_column("q");
  dataset.add_prompt_column("ctx");
  dataset.set_answer_column("a");
  dataset.set_prompt_column_separator(" | ");
  dataset.set_system_column("persona");
  EXPECT_EQ(Story(Parse(dataset, R"({"q": 2, "ctx": true, "a": 4.5, "persona": "P"})")),
            "system: P; user: 2 | true; *assistant: 4.5; ");
}

TEST(ColumnsTest, HasNoAnswerWhereItIsBlankNullOrMissing) {
  for (const char* row : {R"({"instruction": "x", "output": ""})", R"({"instruction": "x", "output": " \n"})",
                          R"({"instruction": "x", "output": null})", R"({"instruction": "x"})"}) {
    EXPECT_EQ(Story(Parse({}, row)), "none") << row;
  }
}

TEST(ColumnsTest, NamesWhatIsThereInsteadOfText) {
  EXPECT_THAT(Parse({}, R"({"instruction": {"a": 1}, "output": "x"})"),
              StatusIs(kInvalid, HasSubstr(R"(f:3: column "instruction" holds an object ({"a":1}))")));
}

TEST(ColumnsTest, SaysThatNoRowHasAColumn) {
  v1::Dataset dataset;
  dataset.set_answer_column("anwser");
  RowFormat format(dataset);
  const Row row = MakeRow(R"({"instruction": "x", "answer": "y"})");
  ASSERT_OK(format.Begin(row));
  std::set<std::string> seen;
  ASSERT_OK(format.Parse(row, &seen));
  EXPECT_THAT(
      format.CheckColumns(seen),
      StatusIs(kInvalid, HasSubstr(R"(f:3: no row has a column "anwser"; the columns are "answer", "instruction")")));
}

TEST(MessagesTest, ReadsOpenAi) {
  EXPECT_EQ(Story(Parse({}, R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"},
                                {"role": "assistant", "content": "A"}, {"role": "user", "content": "V"},
                                {"role": "assistant", "content": "B"}, {"role": "user", "content": "unanswered"}]})")),
            "system: S; user: U; *assistant: A; user: V; *assistant: B; ");
}

TEST(MessagesTest, ReadsShareGpt) {
  EXPECT_EQ(Story(Parse({}, R"({"conversations": [{"from": "system", "value": "S"}, {"from": "human", "value": "U"},
                                {"from": "gpt", "value": "A"}]})")),
            "system: S; user: U; *assistant: A; ");
}

TEST(MessagesTest, ReadsTextPartsToolCallsWeightsAndTools) {
  auto talk = Parse(
      {}, R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "U"}, {"type": "text", "text": "V"}]},
                            {"role": "assistant", "content": "not this", "weight": 0},
                            {"role": "assistant", "content": null, "tool_calls": [{"name": "f"}]},
                            {"role": "tool", "content": "4"}, {"role": "assistant", "content": "Four"}],
                            "tools": [{"name": "f"}]})");
  EXPECT_EQ(Story(talk), "user: UV; assistant: not this; *assistant: null; tool: 4; *assistant: Four; ");
  EXPECT_EQ((*talk)->tools.size(), 1);
}

TEST(MessagesTest, ReadsAListWrittenAsText) {
  v1::Dataset dataset;
  dataset.set_messages_column("chat");
  EXPECT_EQ(
      Story(Parse(
          dataset,
          R"({"chat": "[{\"role\": \"user\", \"content\": \"U\"}, {\"role\": \"assistant\", \"content\": \"A\"}]"})")),
      "user: U; *assistant: A; ");
  EXPECT_EQ(Story(Parse(dataset, R"({"chat": ""})")), "none");
}

TEST(MessagesTest, HasNoAnswerWithoutAnAssistantThatSpeaks) {
  EXPECT_EQ(
      Story(Parse({}, R"({"messages": [{"role": "user", "content": "U"}, {"role": "assistant", "content": " "}]})")),
      "none");
  EXPECT_EQ(Story(Parse({}, R"({"messages": []})")), "none");
  EXPECT_EQ(Story(Parse({}, R"({"messages": null})")), "none");
}

TEST(MessagesTest, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"messages": "x"})", "f:3: column \"messages\": not JSON"},
      {R"({"messages": {"a": 1}})", "holds an object ({\"a\":1})"},
      {R"({"messages": [7]})", "message 1 is a number (7)"},
      {R"({"messages": [{"content": "x"}]})", "message 1 has neither \"role\" nor \"from\""},
      {R"({"messages": [{"from": "narrator", "value": "x"}]})", "message 1 is from \"narrator\""},
      {R"({"messages": [{"role": 1, "content": "x"}]})", "message 1 has a number as role"},
      {R"({"messages": [{"role": "user", "content": {"x": 1}}]})", "message 1 has an object as content"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})", "message 1 has a list as content"},
  };
  for (const auto& [row, message] : cases) {
    EXPECT_THAT(Parse({}, row), StatusIs(kInvalid, HasSubstr(message))) << row;
  }
}

TEST(FormatTest, IsDecidedByTheFirstRowUnlessTheJobSays) {
  v1::Dataset dataset;
  dataset.set_format(v1::Dataset::MESSAGES);
  RowFormat format(dataset);
  const Row row = MakeRow(R"({"instruction": "x", "output": "y"})");
  ASSERT_OK(format.Begin(row));
  std::set<std::string> seen;
  ASSERT_OK_AND_ASSIGN(auto talk, format.Parse(row, &seen));
  EXPECT_FALSE(talk.has_value());
  EXPECT_THAT(format.CheckColumns(seen), StatusIs(kInvalid, HasSubstr("no row has a column \"conversations\"")));
}

}  // namespace
}  // namespace studio
