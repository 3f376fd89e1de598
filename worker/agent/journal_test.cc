#include "worker/agent/journal.h"

#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/env/memory_env.h"
#include "common/status/testing.h"

namespace studio::worker {
namespace {

using testing::IsEmpty;
using testing::Key;
using testing::UnorderedElementsAre;

constexpr char kPath[] = "/journal";

JournalRecord Assigned(const std::string& job, int64_t epoch) {
  JournalRecord record;
  record.mutable_assigned()->mutable_key()->set_job_id(job);
  record.mutable_assigned()->mutable_key()->set_attempt(1);
  record.mutable_assigned()->mutable_key()->set_epoch(epoch);
  return record;
}
JournalRecord Ended(const std::string& job, int64_t epoch) {
  JournalRecord record;
  *record.mutable_ended() = Assigned(job, epoch).assigned().key();
  return record;
}
JournalRecord Event(int64_t id) {
  JournalRecord record;
  record.mutable_event()->set_id(id);
  record.mutable_event()->mutable_message()->mutable_attempt()->set_message(absl::StrCat("event ", id));
  return record;
}
JournalRecord Acknowledged(int64_t id) {
  JournalRecord record;
  record.set_acknowledged(id);
  return record;
}
AttemptId Id(const std::string& job, int64_t epoch) { return {job, 1, epoch}; }

class JournalTest : public testing::Test {
 protected:
  // As the next start of the worker finds it.
  JournalState Reopen() {
    absl::StatusOr<std::unique_ptr<Journal>> journal = Journal::Open(env_, kPath);
    EXPECT_OK(journal);
    if (!journal.ok()) return {};
    journal_ = *std::move(journal);
    return journal_->recovered();
  }
  void Write(const std::vector<JournalRecord>& records) {
    for (const JournalRecord& record : records) ASSERT_OK(journal_->Append(record));
    ASSERT_OK(journal_->Sync());
  }

  MemoryEnv env_;
  std::unique_ptr<Journal> journal_;
};

TEST_F(JournalTest, StartsEmpty) {
  const JournalState state = Reopen();
  EXPECT_THAT(state.attempts, IsEmpty());
  EXPECT_THAT(state.events, IsEmpty());
  EXPECT_EQ(state.last_event_id, 0);
}

TEST_F(JournalTest, RecoversWhatIsNeitherEndedNorAcknowledged) {
  Reopen();
  Write({Assigned("j1", 1), Event(1), Assigned("j2", 2), Event(2), Acknowledged(1), Ended("j1", 1)});
  const JournalState state = Reopen();
  EXPECT_THAT(state.attempts, UnorderedElementsAre(Key(Id("j2", 2))));
  EXPECT_THAT(state.events, UnorderedElementsAre(Key(2)));
  EXPECT_EQ(state.events.at(2).attempt().message(), "event 2");
}

TEST_F(JournalTest, NeverGivesAnIdTwiceEvenWhenAllIsAcknowledged) {
  Reopen();
  Write({Event(1), Event(2), Acknowledged(2), Acknowledged(1)});
  EXPECT_EQ(Reopen().last_event_id, 2);
  EXPECT_EQ(Reopen().last_event_id, 2) << "compacted once more";
}

TEST_F(JournalTest, CompactsAtItsStart) {
  Reopen();
  for (int64_t id = 1; id <= 100; ++id) Write({Event(id), Acknowledged(id)});
  ASSERT_OK_AND_ASSIGN(const int64_t before, env_.FileSize(kPath));
  Reopen();
  ASSERT_OK_AND_ASSIGN(const int64_t after, env_.FileSize(kPath));
  EXPECT_LT(after, before / 100);
}

TEST_F(JournalTest, CompactsWhileItRuns) {
  ASSERT_OK_AND_ASSIGN(journal_, Journal::Open(env_, kPath, /*compact_bytes=*/1000));
  Write({Assigned("j1", 1), Event(1)});
  int64_t most = 0;
  for (int64_t id = 2; id <= 1000; ++id) {
    Write({Event(id), Acknowledged(id)});
    ASSERT_OK_AND_ASSIGN(const int64_t bytes, env_.FileSize(kPath));
    EXPECT_EQ(journal_->bytes(), bytes);
    most = std::max(most, bytes);
  }
  EXPECT_LE(most, 1100);
  const JournalState state = Reopen();
  EXPECT_THAT(state.attempts, UnorderedElementsAre(Key(Id("j1", 1))));
  EXPECT_THAT(state.events, UnorderedElementsAre(Key(1)));
  EXPECT_EQ(state.last_event_id, 1000);
}

// The disk fails at each of its changes in turn, and the machine with it: the old records are there or the new ones.
TEST_F(JournalTest, ACrashInTheMidstOfCompactingLosesNothingThatWasSynced) {
  for (int changes = 0; changes < 200; ++changes) {
    env_ = MemoryEnv();
    ASSERT_OK_AND_ASSIGN(journal_, Journal::Open(env_, kPath, /*compact_bytes=*/200));
    env_.FailAfter(changes, absl::InternalError("the disk is gone"));
    int64_t synced = 0;
    for (int64_t id = 1; journal_->Append(Event(id)).ok() && journal_->Sync().ok(); ++id) {
      synced = id;
      if (id > 3 && !journal_->Append(Acknowledged(id - 3)).ok()) break;
    }
    env_.StopFailing();
    env_.Crash();
    const JournalState state = Reopen();
    for (int64_t id = std::max<int64_t>(1, synced - 2); id <= synced; ++id) {
      EXPECT_EQ(state.events.count(id), 1) << "event " << id << " of " << synced << " after " << changes << " changes";
    }
  }
}

TEST_F(JournalTest, ACrashLosesNothingThatWasSynced) {
  Reopen();
  Write({Event(1)});
  ASSERT_OK(journal_->Append(Event(2)));
  env_.Crash();
  EXPECT_THAT(Reopen().events, UnorderedElementsAre(Key(1)));
}

// However many bytes of the last write reached the disk.
TEST_F(JournalTest, ATornTailIsCutOffAndWritingGoesOn) {
  Reopen();
  Write({Event(1)});
  ASSERT_OK_AND_ASSIGN(const int64_t one, env_.FileSize(kPath));
  for (int64_t torn = 0; torn < one; ++torn) {
    env_ = MemoryEnv();
    Reopen();
    Write({Event(1)});
    ASSERT_OK(journal_->Append(Event(2)));
    env_.Crash(torn);
    EXPECT_THAT(Reopen().events, UnorderedElementsAre(Key(1))) << torn << " bytes";
    EXPECT_EQ(journal_->dropped_bytes(), torn);
    Write({Event(3)});
    EXPECT_THAT(Reopen().events, UnorderedElementsAre(Key(1), Key(3))) << torn << " bytes";
    EXPECT_EQ(journal_->dropped_bytes(), 0);
  }
}

TEST_F(JournalTest, ARecordThatTheDiskChangedEndsTheJournal) {
  Reopen();
  Write({Event(1)});
  ASSERT_OK_AND_ASSIGN(const int64_t one, env_.FileSize(kPath));
  for (int64_t offset = one; offset < 2 * one; ++offset) {
    env_ = MemoryEnv();
    Reopen();
    Write({Event(1), Event(2)});
    env_.Corrupt(kPath, offset);
    EXPECT_THAT(Reopen().events, UnorderedElementsAre(Key(1))) << "byte " << offset;
  }
}

TEST_F(JournalTest, ZerosThatAFileSystemLeftAreNoRecords) {
  Reopen();
  Write({Event(1)});
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<AppendFile> file, env_.OpenAppend(kPath));
  ASSERT_OK(file->Append(std::string(64, '\0')));
  EXPECT_THAT(Reopen().events, UnorderedElementsAre(Key(1)));
  EXPECT_EQ(journal_->dropped_bytes(), 64);
}

TEST_F(JournalTest, AFullDiskIsAnError) {
  Reopen();
  env_.FailAfter(1, absl::ResourceExhaustedError("disk full"));
  ASSERT_OK(journal_->Append(Event(1)));
  EXPECT_THAT(journal_->Sync(), StatusIs(absl::StatusCode::kResourceExhausted, "disk full"));
}

}  // namespace
}  // namespace studio::worker
