// What people see: numbers, tables, the progress bar, YAML.
#include <google/protobuf/text_format.h>

#include <sstream>
#include <string>

#include "common/status/testing.h"
#include "studioctl/print.h"
#include "studioctl/progress.h"
#include "studioctl/text.h"

namespace studio::ctl {
namespace {

using testing::HasSubstr;
using testing::Not;

v1::JobRecord Running() {
  v1::JobRecord record;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "id: \"j7\" state: RUNNING attempts { state: ATTEMPT_RUNNING } progress { step: 50 total_steps: 100 loss: 2.9134 "
      "tokens_per_second: 1234.4 peak_memory_bytes: 2040109466 eta_seconds: 65 }",
      &record));
  return record;
}

TEST(Text, ReadsAsPeopleWriteIt) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(102005473280.0), "95.0 GiB");
  EXPECT_EQ(HumanCount(999), "999");
  EXPECT_EQ(HumanCount(1234567), "1,234,567");
  EXPECT_EQ(HumanCount(-1234), "-1,234");
  EXPECT_EQ(HumanCount(-123), "-123");
  EXPECT_EQ(HumanDuration(absl::Seconds(59)), "59s");
  EXPECT_EQ(HumanDuration(absl::Seconds(65)), "1m05s");
  EXPECT_EQ(HumanDuration(absl::Hours(26)), "26h00m");
  EXPECT_EQ(HumanDuration(absl::Hours(100)), "4d");
}

TEST(Text, CountsColumnsNotBytes) {
  EXPECT_EQ(DisplayWidth("ä€"), 2);
  EXPECT_EQ(DisplayWidth("日本"), 4);
  EXPECT_EQ(DisplayWidth("e\xcc\x81"), 1);
  EXPECT_EQ(Fitted("日本語", 5), "日本…");
  EXPECT_EQ(Fitted("abc", 3), "abc");
  EXPECT_EQ(Fitted("abcd", 3), "ab…");
  EXPECT_EQ(Table({{"a", "b"}, {"日", "x"}}), "a   b\n日  x\n");
}

TEST(Text, NothingMovesTheCursor) {
  EXPECT_EQ(Printable("a\x1b[2Jb\nc\x7f"), "a[2Jb c");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "2J ä"),
            "2J ä");
}

TEST(ProgressLine, GivesUpFiguresWhereTheTerminalIsNarrow) {
  EXPECT_EQ(ProgressLine(Running(), 100),
            "j7 RUNNING [===============>              ] 50/100  loss 2.913  ETA 1m05s  1,234 tokens/s  1.9 GiB");
  EXPECT_EQ(ProgressLine(Running(), 80),
            "j7 RUNNING [=====>     ] 50/100  loss 2.913  ETA 1m05s  1,234 tokens/s  1.9 GiB");
  EXPECT_EQ(ProgressLine(Running(), 50), "j7 RUNNING [===>  ] 50/100  loss 2.913  ETA 1m05s");
  EXPECT_EQ(ProgressLine(Running(), 12), "j7 RUNNING…");
  for (int width = 1; width < 200; ++width) EXPECT_LT(DisplayWidth(ProgressLine(Running(), width)), width);
}

TEST(ProgressLine, ShowsPreparationByRows) {
  v1::JobRecord record;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "id: \"j7\" state: RUNNING attempts { state: ATTEMPT_PREPARING } progress { prepared_rows: 10 total_rows: 20 }",
      &record));
  EXPECT_EQ(ProgressLine(record, 60), "j7 RUNNING (PREPARING) [==============>             ] 10/20");
}

TEST(ProgressView, RedrawsOneBarAndKeepsEventsAboveIt) {
  std::istringstream in;
  std::ostringstream out, err;
  Interrupt interrupt;
  Console console{in, out, err, interrupt};
  console.is_terminal = true;
  console.width = [] { return 50; };
  ProgressView view(console);
  v1::WatchJobResponse response;
  *response.mutable_record() = Running();
  view.Show(response);
  EXPECT_EQ(out.str(), "\rj7 RUNNING [===>  ] 50/100  loss 2.913  ETA 1m05s\x1b[K");
  out.str("");
  response.mutable_record()->add_evaluations()->set_loss(3);
  view.Show(response);
  EXPECT_EQ(out.str(),
            "\r\x1b[Kstep 0: held-out loss 3.0000\n"
            "\rj7 RUNNING [===>  ] 50/100  loss 2.913  ETA 1m05s\x1b[K"
            "\rj7 RUNNING [===>  ] 50/100  loss 2.913  ETA 1m05s\x1b[K");
  view.Finish();
  EXPECT_EQ(out.str().back(), '\n');
}

TEST(ProgressView, SaysWhyAnAttemptEnded) {
  std::istringstream in;
  std::ostringstream out, err;
  Interrupt interrupt;
  Console console{in, out, err, interrupt};
  ProgressView view(console);
  v1::WatchJobResponse response;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "record { id: \"j7\" state: PENDING message: \"waits for a worker\" checkpoint { step: 40 } "
      "attempts { number: 1 state: ATTEMPT_FAILED reason: CRASH message: \"signal 11\" } }",
      &response));
  view.Show(response);
  view.Show(response);
  EXPECT_EQ(out.str(),
            "j7 PENDING: waits for a worker\n"
            "attempt 1 ended: FAILED (CRASH): signal 11; goes on from step 40\n");
}

TEST(JsonToYaml, QuotesWhatCouldBeMisread) {
  EXPECT_EQ(
      JsonToYaml(R"({"id": "j1", "on": "no", "n": 1.5, "s": "a: b", "list": [1, {"a": "x"}], "e": [], "t": true})"),
      "id: j1\n\"on\": \"no\"\n\"n\": 1.5\ns: \"a: b\"\nlist:\n  - 1\n  -\n    a: x\ne: []\nt: true\n");
  EXPECT_EQ(JsonToYaml("[]"), "[]\n");
}

TEST(StateText, SaysMoreThanRunningWhereThereIsMore) {
  v1::JobRecord record = Running();
  EXPECT_EQ(StateText(record), "RUNNING");
  record.mutable_attempts(0)->set_state(v1::ATTEMPT_UNKNOWN);
  EXPECT_EQ(StateText(record), "RUNNING (UNKNOWN)");
  record.mutable_attempts(0)->set_state(static_cast<v1::AttemptState>(99));
  EXPECT_EQ(StateText(record), "RUNNING (state 99)");
}

}  // namespace
}  // namespace studio::ctl
