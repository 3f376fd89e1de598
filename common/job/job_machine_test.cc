#include "common/job/job_machine.h"

#include <optional>
#include <string>
#include <vector>

#include "common/status/testing.h"

namespace studio {
namespace {

using testing::HasSubstr;
const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

v1::JobRecord NewJob() {
  v1::JobRecord record;
  record.set_id("j1");
  record.set_state(v1::PENDING);
  record.set_revision(1);
  record.mutable_job()->mutable_retry()->set_max_crashes(1);
  record.mutable_job()->mutable_training()->set_batch_size(4);
  return record;
}

Assigned AssignedTo(const std::string& worker, int64_t epoch) {
  v1::RankAssignment rank;
  rank.set_worker_id(worker);
  return {.epoch = epoch, .ranks = {rank}, .time = kNow};
}

AttemptReported Reported(int64_t epoch, v1::AttemptState state, v1::Reason reason = v1::REASON_UNSPECIFIED) {
  return {.epoch = epoch, .state = state, .reason = reason, .time = kNow};
}

CheckpointStored Checkpoint(int64_t epoch, int64_t step) {
  CheckpointStored event{.epoch = epoch};
  event.manifest.set_step(step);
  return event;
}

// Applies all; every one must be possible.
v1::JobRecord After(const std::vector<JobEvent>& events, v1::JobRecord record = NewJob()) {
  for (const JobEvent& event : events) {
    absl::StatusOr<v1::JobRecord> next = Apply(record, event);
    EXPECT_OK(next) << "event " << event.index();
    if (next.ok()) record = *next;
  }
  return record;
}

TEST(JobMachine, FollowsTheTable) {
  using enum v1::JobState;
  using enum v1::AttemptState;
  struct Row {
    std::string name;
    std::vector<JobEvent> events;
    v1::JobState job;
    std::optional<v1::AttemptState> attempt;
    v1::Reason reason = v1::REASON_UNSPECIFIED;
  };
  const std::vector<Row> rows = {
      {"held", {Held{}}, HELD, {}},
      {"released", {Held{}, Released{}}, PENDING, {}},
      {"assigned", {AssignedTo("w", 5)}, RUNNING, ATTEMPT_ASSIGNED},
      {"prepares", {AssignedTo("w", 5), Reported(5, ATTEMPT_PREPARING)}, RUNNING, ATTEMPT_PREPARING},
      {"passes states over", {AssignedTo("w", 5), Reported(5, ATTEMPT_RUNNING)}, RUNNING, ATTEMPT_RUNNING},
      {"succeeds", {AssignedTo("w", 5), Reported(5, ATTEMPT_SUCCEEDED)}, SUCCEEDED, ATTEMPT_SUCCEEDED},
      {"crashes, retried",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_FAILED, v1::CRASH)},
       PENDING,
       ATTEMPT_FAILED,
       v1::CRASH},
      {"crashes too often",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_FAILED, v1::CRASH), AssignedTo("w", 6),
        Reported(6, ATTEMPT_FAILED, v1::CRASH)},
       FAILED,
       ATTEMPT_FAILED,
       v1::CRASH},
      {"failed without a reason counts as a crash",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_FAILED)},
       PENDING,
       ATTEMPT_FAILED,
       v1::CRASH},
      {"bad input",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_FAILED, v1::BAD_INPUT)},
       FAILED,
       ATTEMPT_FAILED,
       v1::BAD_INPUT},
      {"preempted",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_PREEMPTED)},
       PENDING,
       ATTEMPT_PREEMPTED,
       v1::PREEMPTED_BY_SCHEDULER},
      {"drained",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_PREEMPTED, v1::WORKER_DRAINED)},
       PENDING,
       ATTEMPT_PREEMPTED,
       v1::WORKER_DRAINED},
      {"out of contact", {AssignedTo("w", 5), ContactLost{5}}, RUNNING, ATTEMPT_UNKNOWN},
      {"back in contact",
       {AssignedTo("w", 5), ContactLost{5}, ContactRegained{5, ATTEMPT_STARTING}},
       RUNNING,
       ATTEMPT_STARTING},
      {"told to run while unknown",
       {AssignedTo("w", 5), ContactLost{5}, Reported(5, ATTEMPT_RUNNING)},
       RUNNING,
       ATTEMPT_RUNNING},
      {"fenced", {AssignedTo("w", 5), ContactLost{5}, GivenUp{5, true}}, PENDING, ATTEMPT_FENCED, v1::NODE_LOST},
      {"proven dead", {AssignedTo("w", 5), GivenUp{5, false}}, PENDING, ATTEMPT_FAILED, v1::NODE_LOST},
      {"runs again after a loss", {AssignedTo("w", 5), GivenUp{5}, AssignedTo("v", 6)}, RUNNING, ATTEMPT_ASSIGNED},
      {"cancelled while it waits", {CancelRequested{}}, CANCELLED, {}, v1::CANCELLED_BY_USER},
      {"cancelled while held", {Held{}, CancelRequested{}}, CANCELLED, {}, v1::CANCELLED_BY_USER},
      {"cancelling", {AssignedTo("w", 5), CancelRequested{}}, CANCELLING, ATTEMPT_ASSIGNED},
      {"cancelled",
       {AssignedTo("w", 5), CancelRequested{}, Reported(5, ATTEMPT_CANCELLED)},
       CANCELLED,
       ATTEMPT_CANCELLED,
       v1::CANCELLED_BY_USER},
      {"crashes while it is cancelled",
       {AssignedTo("w", 5), CancelRequested{}, Reported(5, ATTEMPT_FAILED, v1::CRASH)},
       CANCELLED,
       ATTEMPT_FAILED,
       v1::CANCELLED_BY_USER},
      {"fenced while it is cancelled",
       {AssignedTo("w", 5), CancelRequested{}, GivenUp{5, true}},
       CANCELLED,
       ATTEMPT_FENCED,
       v1::CANCELLED_BY_USER},
      {"succeeds before the cancel arrives",
       {AssignedTo("w", 5), CancelRequested{}, Reported(5, ATTEMPT_SUCCEEDED)},
       SUCCEEDED,
       ATTEMPT_SUCCEEDED},
      {"cancelled unasked is a crash",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_CANCELLED)},
       PENDING,
       ATTEMPT_FAILED,
       v1::CRASH},
      {"terminal absorbs a cancel",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_SUCCEEDED), CancelRequested{}},
       SUCCEEDED,
       ATTEMPT_SUCCEEDED},
      {"terminal absorbs a hold",
       {CancelRequested{}, Held{}, Released{}, PendingExplained{"no"}},
       CANCELLED,
       {},
       v1::CANCELLED_BY_USER},
      {"the end told twice",
       {AssignedTo("w", 5), Reported(5, ATTEMPT_SUCCEEDED), Reported(5, ATTEMPT_SUCCEEDED)},
       SUCCEEDED,
       ATTEMPT_SUCCEEDED},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const v1::JobRecord record = After(row.events);
    EXPECT_EQ(v1::JobState_Name(record.state()), v1::JobState_Name(row.job));
    EXPECT_EQ(record.attempts_size() > 0, row.attempt.has_value());
    if (row.attempt && record.attempts_size() > 0) {
      EXPECT_EQ(v1::AttemptState_Name(record.attempts().rbegin()->state()), v1::AttemptState_Name(*row.attempt));
    }
    EXPECT_EQ(v1::Reason_Name(record.reason()), v1::Reason_Name(row.reason));
    EXPECT_EQ(record.has_end_time(), IsTerminal(row.job));
  }
}

TEST(JobMachine, RefusesIllegalEdges) {
  struct Row {
    std::string name;
    std::vector<JobEvent> events;
    JobEvent illegal;
    absl::StatusCode code;
  };
  constexpr absl::StatusCode kNoEdge = absl::StatusCode::kFailedPrecondition, kStale = absl::StatusCode::kAborted;
  const std::vector<JobEvent> running = {AssignedTo("w", 5), Reported(5, v1::ATTEMPT_RUNNING)};
  const std::vector<JobEvent> requeued = {AssignedTo("w", 5), GivenUp{5, true}};
  const std::vector<JobEvent> again = {AssignedTo("w", 5), GivenUp{5, true}, AssignedTo("v", 6)};
  const std::vector<JobEvent> done = {AssignedTo("w", 5), Reported(5, v1::ATTEMPT_SUCCEEDED)};
  const std::vector<Row> rows = {
      {"assigned twice", running, AssignedTo("v", 6), kNoEdge},
      {"assigned after the end", done, AssignedTo("v", 6), kNoEdge},
      {"assigned while held", {Held{}}, AssignedTo("v", 6), kNoEdge},
      {"an epoch used before", requeued, AssignedTo("v", 5), kNoEdge},
      {"no ranks", {}, Assigned{.epoch = 6}, kNoEdge},
      {"backwards", running, Reported(5, v1::ATTEMPT_PREPARING), kNoEdge},
      {"a worker says unknown", running, Reported(5, v1::ATTEMPT_UNKNOWN), kNoEdge},
      {"a worker says fenced", running, Reported(5, v1::ATTEMPT_FENCED), kNoEdge},
      {"held while it runs", running, Held{}, kNoEdge},
      {"explained while it runs", running, PendingExplained{"no worker"}, kNoEdge},
      {"word of a fenced attempt", requeued, Reported(5, v1::ATTEMPT_SUCCEEDED), kStale},
      {"word of an older epoch", again, Reported(5, v1::ATTEMPT_SUCCEEDED), kStale},
      {"word before any attempt", {}, Reported(5, v1::ATTEMPT_SUCCEEDED), kStale},
      {"checkpoint of a fenced attempt", requeued, Checkpoint(5, 10), kStale},
      {"checkpoint of an older epoch", again, Checkpoint(5, 10), kStale},
      {"checkpoint after the end", done, Checkpoint(5, 10), kStale},
      {"a loss that is over", again, ContactLost{5}, kStale},
      {"another end", done, Reported(5, v1::ATTEMPT_FAILED), kStale},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.name);
    const absl::StatusOr<v1::JobRecord> next = Apply(After(row.events), row.illegal);
    EXPECT_EQ(next.status().code(), row.code) << next.status();
    EXPECT_EQ(IsStale(next.status()), row.code == kStale);
  }
}

TEST(JobMachine, RecordsCheckpointsForwardOnly) {
  v1::JobRecord record = After({AssignedTo("w", 5), Checkpoint(5, 10), Checkpoint(5, 20), Checkpoint(5, 20)});
  EXPECT_EQ(record.checkpoint().step(), 20);
  EXPECT_THAT(Apply(record, Checkpoint(5, 19)), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("step 20")));
  record = After({GivenUp{5, true}, AssignedTo("w", 6)}, record);
  EXPECT_EQ(record.attempts(1).start_step(), 20);
}

TEST(JobMachine, CountsRevisionsOnlyWhereSomethingChanged) {
  v1::JobRecord record = After({AssignedTo("w", 5)});
  EXPECT_EQ(record.revision(), 2);
  const AttemptReported preparing = Reported(5, v1::ATTEMPT_PREPARING);
  record = After({preparing}, record);
  EXPECT_EQ(record.revision(), 3);
  record = After({preparing}, record);
  EXPECT_EQ(record.revision(), 3);
}

TEST(JobMachine, AppliesDataOnceHoweverOftenItArrives) {
  AttemptReported event = Reported(5, v1::ATTEMPT_STATE_UNSPECIFIED);
  event.evaluations.resize(2);
  event.evaluations[0].set_step(0);
  event.evaluations[1].set_step(10);
  event.samples.resize(1);
  event.notes = {"no bf16 here: fp32"};
  v1::JobRecord record = After({AssignedTo("w", 5), event, event});
  EXPECT_EQ(record.evaluations_size(), 2);
  EXPECT_EQ(record.samples_size(), 1);
  EXPECT_EQ(record.notes_size(), 1);
  EXPECT_EQ(record.attempts(0).state(), v1::ATTEMPT_ASSIGNED);
  event.evaluations[1].set_loss(2.5);  // the same step, reached again after a resume
  record = After({event}, record);
  ASSERT_EQ(record.evaluations_size(), 2);
  EXPECT_EQ(record.evaluations(1).loss(), 2.5);
}

TEST(JobMachine, KeepsTheNewestOfWhatARecordGathers) {
  v1::JobRecord record = After({AssignedTo("w", 5)});
  AttemptReported event = Reported(5, v1::ATTEMPT_RUNNING);
  for (int i = 0; i < 1'100; ++i) {
    event.samples.emplace_back().set_step(i);
    event.notes.push_back("note " + std::to_string(i));
  }
  record = After({event}, record);
  ASSERT_EQ(record.samples_size(), 1'000);
  EXPECT_EQ(record.samples(0).step(), 100);
  ASSERT_EQ(record.notes_size(), 1'000);
  EXPECT_EQ(record.notes(999), "note 1099");
}

TEST(JobMachine, StartsAgainWithHalfTheMicroBatchAfterOutOfMemory) {
  const v1::JobRecord record =
      After({AssignedTo("w", 5), Reported(5, v1::ATTEMPT_FAILED, v1::DEVICE_OOM), AssignedTo("w", 6)});
  EXPECT_EQ(record.attempts(0).plan().micro(), 4);
  EXPECT_EQ(record.attempts(1).plan().micro(), 2);
  EXPECT_EQ(record.attempts(1).plan().accumulation(), 2);
  EXPECT_EQ(record.attempts(1).plan().global(), record.attempts(0).plan().global());
  EXPECT_EQ(record.attempts(1).plan().cause(), "DEVICE_OOM");
  ASSERT_EQ(record.notes_size(), 1);
  EXPECT_EQ(record.notes(0),
            "attempt 1 ended with DEVICE_OOM: micro batch 2 instead of 4, gradient accumulation 2 instead of 1; the "
            "global batch stays 4");
}

TEST(JobMachine, FailsWhereHalfTheMicroBatchIsStillTooMuch) {
  const v1::JobRecord record = After({AssignedTo("w", 5), Reported(5, v1::ATTEMPT_FAILED, v1::DEVICE_OOM),
                                      AssignedTo("w", 6), Reported(6, v1::ATTEMPT_FAILED, v1::HOST_OOM)});
  EXPECT_EQ(record.state(), v1::FAILED);
  EXPECT_EQ(record.reason(), v1::HOST_OOM);
}

TEST(JobMachine, SaysWhyAndWhereItGoesOn) {
  AttemptReported crash = Reported(5, v1::ATTEMPT_FAILED, v1::CRASH);
  crash.message = "signal 11";
  const v1::JobRecord record = After({AssignedTo("w", 5), Checkpoint(5, 7), crash});
  EXPECT_EQ(record.message(), "attempt 1 ended with CRASH: signal 11; goes on from step 7");
}

}  // namespace
}  // namespace studio
