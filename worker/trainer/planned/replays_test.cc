#include "worker/trainer/planned/replays.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace studio::planned {
namespace {

// Records as a CUDA graph does: the work is not run then.
class FakeRecorder final : public Recorder {
 public:
  struct Log {
    int recorded = 0, alive = 0, replayed = 0;
    bool short_of_memory = false;
  };
  explicit FakeRecorder(Log& log) : log_(log) {}
  std::unique_ptr<Recorded> Record(std::function<void()>) override {
    if (log_.short_of_memory) throw c10::OutOfMemoryError({__func__, __FILE__, __LINE__}, "CUDA out of memory");
    ++log_.recorded;
    return std::make_unique<Fake>(log_);
  }

 private:
  struct Fake final : Recorded {
    explicit Fake(Log& log) : log(log) { ++log.alive; }
    ~Fake() override { --log.alive; }
    void Replay() override { ++log.replayed; }
    Log& log;
  };
  Log& log_;
};

struct ReplaysTest : testing::Test {
  void Run(int64_t tokens, int times = 1, bool recordable = true) {
    for (int i = 0; i < times; ++i) replays.Run({.tokens = tokens, .cu_seqlens = {}}, recordable, [this] { ++direct; });
  }
  FakeRecorder::Log log;
  Replays replays{std::make_unique<FakeRecorder>(log)};
  int direct = 0;
};

TEST_F(ReplaysTest, RecordsAShapeThatComesAThirdTime) {
  Run(512, 2);
  EXPECT_EQ(log.recorded, 0);
  Run(512, 5);
  EXPECT_EQ(direct, 2);
  EXPECT_EQ(log.recorded, 1);
  EXPECT_EQ(log.replayed, 5);
  EXPECT_EQ(replays.replays(), 5);
}

TEST_F(ReplaysTest, TellsShapesApartByAllThatIsTakenByValue) {
  const MicroShape base{8, 7, 1, 8, 0, {}};
  for (const MicroShape& shape : {base,
                                  {9, 7, 1, 8, 0, {}},
                                  {8, 6, 1, 8, 0, {}},
                                  {8, 7, 2, 8, 0, {}},
                                  {8, 7, 1, 7, 0, {}},
                                  {8, 7, 1, 8, 1, {}},
                                  {8, 7, 1, 8, 0, {0, 8}}}) {
    for (int i = 0; i < 3; ++i) replays.Run(shape, true, [this] { ++direct; });
  }
  EXPECT_EQ(replays.recordings(), 7);
  EXPECT_EQ(log.replayed, 7);
}

TEST_F(ReplaysTest, KeepsNoMoreThanItsBoundOfRecordingsHoweverManyShapesCome) {
  for (int64_t tokens = 0; tokens < 2000; ++tokens) Run(tokens);
  EXPECT_EQ(log.recorded, 0);
  for (int64_t tokens = 0; tokens < 20; ++tokens) Run(tokens, 4);
  EXPECT_EQ(replays.recordings(), Replays::kMostRecordings);
  EXPECT_EQ(log.alive, Replays::kMostRecordings);
}

TEST_F(ReplaysTest, GoesOnDirectlyWhereMemoryIsShortForARecording) {
  Run(1, 3);
  Run(2, 2);
  EXPECT_EQ(log.alive, 1);
  log.short_of_memory = true;
  Run(2, 3);
  EXPECT_EQ(direct, 2 + 5);
  EXPECT_EQ(log.alive, 0) << "recordings give their memory back";
  Run(1, 3);
  EXPECT_EQ(direct, 2 + 5 + 3);
}

TEST_F(ReplaysTest, DropsAllWhereMemoryIsShortForTheWorkAndRecordsAnew) {
  Run(1, 3);
  const auto fail = [] { throw c10::OutOfMemoryError({__func__, __FILE__, __LINE__}, "CUDA out of memory"); };
  EXPECT_THROW(replays.Run({.tokens = 2, .cu_seqlens = {}}, true, fail), c10::OutOfMemoryError);
  EXPECT_EQ(log.alive, 0);
  Run(1, 4);
  EXPECT_EQ(log.recorded, 2);
}

TEST_F(ReplaysTest, NeverRecordsWhatCannotBeOrMustNot) {
  Run(1, 5, /*recordable=*/false);
  EXPECT_EQ(direct, 5);
  Replays off(nullptr);
  for (int i = 0; i < 5; ++i) off.Run({.tokens = 1, .cu_seqlens = {}}, true, [this] { ++direct; });
  EXPECT_EQ(direct, 10);
  EXPECT_EQ(log.recorded, 0);
}

}  // namespace
}  // namespace studio::planned
