#include "controller/logs/attempt_logs.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/status/testing.h"

namespace studio::controller {
namespace {

using testing::HasSubstr;

class AttemptLogsTest : public testing::Test {
 protected:
  AttemptLogsTest()
      : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()),
        logs_(folder_) {}
  std::string Log(int64_t offset = 0, size_t max_bytes = 1 << 20) {
    absl::StatusOr<std::string> text = logs_.ReadLog("j1", 1, 0, offset, max_bytes);
    EXPECT_OK(text);
    return text.ok() ? *text : "";
  }
  static v1::Progress Point(int64_t step, int64_t rows = 0) {
    v1::Progress point;
    point.set_step(step);
    point.set_prepared_rows(rows);
    return point;
  }
  static std::vector<int64_t> Steps(const absl::StatusOr<std::vector<v1::Progress>>& points) {
    EXPECT_OK(points);
    std::vector<int64_t> steps;
    if (points.ok()) {
      for (const v1::Progress& point : *points) steps.push_back(point.step());
    }
    return steps;
  }
  const std::string folder_;
  AttemptLogs logs_;
};

TEST_F(AttemptLogsTest, StoresAResentChunkOnce) {
  ASSERT_OK(logs_.AppendLog("j1", 1, 0, 0, "one\n"));
  ASSERT_OK(logs_.AppendLog("j1", 1, 0, 4, "two\n"));
  ASSERT_OK(logs_.AppendLog("j1", 1, 0, 0, "one\ntwo\nthree\n"));
  EXPECT_EQ(Log(), "one\ntwo\nthree\n");
  EXPECT_EQ(Log(4, 4), "two\n");
  EXPECT_EQ(Log(100), "");
}

TEST_F(AttemptLogsTest, LeavesRoomForALostChunk) {
  ASSERT_OK(logs_.AppendLog("j1", 1, 0, 3, "later"));
  EXPECT_EQ(Log(), "\n\n\nlater");
  ASSERT_OK(logs_.AppendLog("j1", 1, 0, 0, "abc"));
  EXPECT_EQ(Log(), "abclater");
}

TEST_F(AttemptLogsTest, KeepsRanksAttemptsAndJobsApart) {
  ASSERT_OK(logs_.AppendLog("j1", 1, 0, 0, "a"));
  ASSERT_OK(logs_.AppendLog("j1", 1, 1, 0, "b"));
  ASSERT_OK(logs_.AppendLog("j1", 2, 0, 0, "c"));
  ASSERT_OK(logs_.AppendLog("j2", 1, 0, 0, "d"));
  EXPECT_EQ(Log(), "a");
  EXPECT_EQ(*logs_.ReadLog("j1", 2, 0, 0, 10), "c");
  EXPECT_EQ(*logs_.ReadLog("j3", 1, 0, 0, 10), "");
}

TEST_F(AttemptLogsTest, RefusesAnOffsetThatWouldFillTheDisk) {
  EXPECT_THAT(logs_.AppendLog("j1", 1, 0, int64_t{1} << 50, "x"),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("offset 1125899906842624")));
  EXPECT_THAT(logs_.AppendLog("j1", 1, 0, -1, "x"), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("-1")));
}

TEST_F(AttemptLogsTest, KeepsPointsThatGoForward) {
  EXPECT_EQ(Steps(logs_.AppendPoints("j1", 1, {Point(0, 100), Point(0, 200), Point(1), Point(2)})),
            (std::vector<int64_t>{0, 0, 1, 2}));
  EXPECT_EQ(Steps(logs_.AppendPoints("j1", 1, {Point(2), Point(1), Point(3)})), (std::vector<int64_t>{3}));
  EXPECT_EQ(Steps(logs_.ReadPoints("j1", 1)), (std::vector<int64_t>{0, 0, 1, 2, 3}));
}

TEST_F(AttemptLogsTest, ReplaysAfterARestart) {
  ASSERT_OK(logs_.AppendLog("j1", 1, 0, 0, "abc"));
  ASSERT_OK(logs_.AppendPoints("j1", 1, {Point(7)}).status());
  AttemptLogs restarted(folder_);
  EXPECT_EQ(*restarted.ReadLog("j1", 1, 0, 0, 10), "abc");
  ASSERT_TRUE(restarted.LastPoint("j1", 1).has_value());
  EXPECT_EQ(restarted.LastPoint("j1", 1)->step(), 7);
  EXPECT_EQ(restarted.LastPoint("j1", 2), std::nullopt);
  EXPECT_EQ(Steps(restarted.AppendPoints("j1", 1, {Point(7), Point(8)})), (std::vector<int64_t>{8}));
}

TEST_F(AttemptLogsTest, FindsAndRemovesWhatNobodyWroteToForLong) {
  namespace fs = std::filesystem;
  for (const char* job : {"j1", "j2"}) {
    ASSERT_OK(logs_.AppendLog(job, 1, 0, 0, "abc"));
    ASSERT_OK(logs_.AppendPoints(job, 1, {Point(1)}).status());
  }
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(2);
  for (const auto& entry : fs::recursive_directory_iterator(folder_)) fs::last_write_time(entry.path(), old);
  ASSERT_OK(logs_.AppendLog("j2", 1, 0, 3, "more"));
  EXPECT_THAT(logs_.Untouched(absl::Hours(1)), testing::ElementsAre("j1"));
  ASSERT_OK(logs_.Remove("j1"));
  EXPECT_FALSE(fs::exists(folder_ + "/j1"));
  EXPECT_EQ(Log(), "");
  EXPECT_EQ(Steps(logs_.AppendPoints("j1", 1, {Point(1)})), (std::vector<int64_t>{1}));  // from the beginning
}

TEST_F(AttemptLogsTest, CutsOffATornPoint) {
  ASSERT_OK(logs_.AppendPoints("j1", 1, {Point(1), Point(2)}).status());
  const std::string path = folder_ + "/j1/1/points";
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  AttemptLogs restarted(folder_);
  EXPECT_EQ(Steps(restarted.ReadPoints("j1", 1)), (std::vector<int64_t>{1}));
  ASSERT_OK(restarted.AppendPoints("j1", 1, {Point(2), Point(3)}).status());
  EXPECT_EQ(Steps(restarted.ReadPoints("j1", 1)), (std::vector<int64_t>{1, 2, 3}));
}

TEST_F(AttemptLogsTest, StopsAtADamagedPoint) {
  ASSERT_OK(logs_.AppendPoints("j1", 1, {Point(1), Point(2)}).status());
  std::fstream file(folder_ + "/j1/1/points", std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-1, std::ios::end);
  file.put('\x05');
  file.close();
  EXPECT_EQ(Steps(logs_.ReadPoints("j1", 1)), (std::vector<int64_t>{1}));
}

}  // namespace
}  // namespace studio::controller
