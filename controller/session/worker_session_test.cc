#include "controller/session/worker_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace studio::controller {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr absl::Duration kFence = absl::Minutes(15);

v1::AttemptKey Key(const std::string& job, int64_t epoch) {
  v1::AttemptKey key;
  key.set_job_id(job);
  key.set_attempt(1);
  key.set_epoch(epoch);
  return key;
}

v1::Assign AssignOf(const std::string& job, int64_t epoch) {
  v1::Assign assign;
  *assign.mutable_key() = Key(job, epoch);
  return assign;
}

v1::StopAttempt StopOf(const std::string& job, int64_t epoch) {
  v1::StopAttempt stop;
  *stop.mutable_key() = Key(job, epoch);
  return stop;
}

// One line an action: what goes down, and what is to be stored.
std::string Told(const SessionAction& action) {
  if (const auto* send = std::get_if<SendDown>(&action)) {
    const v1::WorkerDown& down = send->message;
    switch (down.message_case()) {
      case v1::WorkerDown::kWelcome:
        return absl::StrCat("welcome ack ", down.acknowledged());
      case v1::WorkerDown::kAssign:
        return absl::StrCat("#", down.sequence(), " assign ", down.assign().key().job_id());
      case v1::WorkerDown::kStop:
        return absl::StrCat("#", down.sequence(), " stop ", down.stop().key().job_id());
      case v1::WorkerDown::kEpochOver:
        return absl::StrCat("#", down.sequence(), " over ", down.epoch_over().job_id(), "/", down.epoch_over().epoch());
      case v1::WorkerDown::kRecorded:
        return absl::StrCat("#", down.sequence(), " recorded ", down.recorded().step());
      case v1::WorkerDown::kLease:
        return "lease";
      case v1::WorkerDown::kRefused:
        return "refused: " + down.refused();
      default:
        return absl::StrCat("ack ", down.acknowledged());
    }
  }
  if (std::get_if<CloseStream>(&action)) return "close";
  if (std::get_if<SaveWorker>(&action)) return "save worker";
  if (std::get_if<KeepPoints>(&action)) return "points";
  if (std::get_if<KeepLog>(&action)) return "log";
  if (std::get_if<Replan>(&action)) return "replan";
  const auto& change = std::get<ChangeJob>(action);
  const std::string job = change.key.job_id();
  if (const auto* e = std::get_if<AttemptReported>(&change.event)) {
    return absl::StrCat(job, " ", v1::AttemptState_Name(e->state));
  }
  if (const auto* e = std::get_if<CheckpointStored>(&change.event)) {
    return absl::StrCat(job, " checkpoint ", e->manifest.step());
  }
  if (std::get_if<ContactLost>(&change.event)) return job + " lost";
  if (const auto* e = std::get_if<ContactRegained>(&change.event)) {
    return absl::StrCat(job, " regained ", v1::AttemptState_Name(e->state));
  }
  const auto& given_up = std::get<GivenUp>(change.event);
  return absl::StrCat(job, given_up.fenced ? " fenced" : " dead: ", given_up.fenced ? "" : given_up.message);
}

// A session with a simulated clock and a store that answers when told to.
class WorkerSessionTest : public testing::Test {
 protected:
  WorkerSessionTest() : session_(SessionOptions{}, Named("w")) {}

  static v1::WorkerRecord Named(const std::string& id) {
    v1::WorkerRecord worker;
    worker.set_id(id);
    return worker;
  }

  std::vector<std::string> Take(const SessionActions& actions) {
    std::vector<std::string> told;
    for (const SessionAction& action : actions) {
      told.push_back(Told(action));
      if (const auto* save = std::get_if<SaveWorker>(&action)) tokens_.push_back(save->token);
      if (const auto* change = std::get_if<ChangeJob>(&action)) tokens_.push_back(change->token);
      if (const auto* points = std::get_if<KeepPoints>(&action)) tokens_.push_back(points->token);
      if (const auto* log = std::get_if<KeepLog>(&action)) tokens_.push_back(log->token);
    }
    return told;
  }
  std::vector<std::string> Stored(StoreOutcome outcome = StoreOutcome::kStored) {
    const int64_t token = tokens_.front();
    tokens_.pop_front();
    return Take(session_.OnStored(token, outcome));
  }
  std::vector<std::string> StoredAll() {
    std::vector<std::string> all;
    while (!tokens_.empty()) {
      for (std::string& line : Stored()) all.push_back(std::move(line));
    }
    return all;
  }

  struct Greeting {
    int64_t incarnation = 1;
    std::string boot = "boot-1";
    bool earlier_ranks_dead = false;
    std::vector<std::pair<v1::AttemptKey, v1::AttemptState>> attempts = {};
    int64_t sequence = 0;
  };
  std::vector<std::string> Hello(const Greeting& greeting) {
    session_.Connected(now_);
    v1::WorkerUp up;
    up.set_sequence(greeting.sequence);
    v1::Hello& hello = *up.mutable_hello();
    hello.set_min_protocol(1);
    hello.set_max_protocol(1);
    hello.set_worker_id("w");
    hello.set_incarnation(greeting.incarnation);
    hello.set_boot_id(greeting.boot);
    hello.set_earlier_ranks_dead(greeting.earlier_ranks_dead);
    for (const auto& [key, state] : greeting.attempts) {
      v1::RunningAttempt& running = *hello.add_attempts();
      *running.mutable_key() = key;
      running.set_state(state);
    }
    return Take(session_.OnMessage(up, now_));
  }
  void Ready() {
    Hello({});
    StoredAll();
    ASSERT_TRUE(session_.usable());
  }
  std::vector<std::string> Report(int64_t sequence, const std::string& job, int64_t epoch, v1::AttemptState state) {
    v1::WorkerUp up;
    up.set_sequence(sequence);
    *up.mutable_attempt()->mutable_key() = Key(job, epoch);
    up.mutable_attempt()->set_state(state);
    return Take(session_.OnMessage(up, now_));
  }
  std::vector<std::string> Checkpoint(int64_t sequence, const std::string& job, int64_t epoch, int64_t step) {
    v1::WorkerUp up;
    up.set_sequence(sequence);
    *up.mutable_checkpoint()->mutable_key() = Key(job, epoch);
    up.mutable_checkpoint()->mutable_manifest()->set_step(step);
    return Take(session_.OnMessage(up, now_));
  }
  std::vector<std::string> Heartbeat() {
    v1::WorkerUp up;
    up.mutable_heartbeat();
    return Take(session_.OnMessage(up, now_));
  }
  std::vector<std::string> TickAfter(absl::Duration time) {
    now_ += time;
    return Take(session_.OnTick(now_));
  }

  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  WorkerSession session_;
  std::deque<int64_t> tokens_;
};

TEST_F(WorkerSessionTest, WelcomesOnceTheWorkerIsStored) {
  EXPECT_THAT(Hello({}), ElementsAre("save worker"));
  EXPECT_FALSE(session_.usable());
  EXPECT_THAT(Stored(), ElementsAre("welcome ack 0", "replan"));
  EXPECT_TRUE(session_.usable());
}

TEST_F(WorkerSessionTest, CountsAGreetingThatIsNumbered) {
  Hello({.sequence = 1});
  EXPECT_THAT(Stored(), ElementsAre("welcome ack 1", "replan"));
  EXPECT_THAT(Report(2, "j1", 5, v1::ATTEMPT_RUNNING), ElementsAre("j1 ATTEMPT_RUNNING"));
}

TEST_F(WorkerSessionTest, AcknowledgesInOrderAndOnlyWhatIsDurable) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  Report(1, "j1", 5, v1::ATTEMPT_PREPARING);
  Report(2, "j1", 5, v1::ATTEMPT_RUNNING);
  const int64_t second = tokens_[1];
  EXPECT_THAT(Take(session_.OnStored(second, StoreOutcome::kStored)), IsEmpty());
  EXPECT_THAT(Stored(), ElementsAre("ack 2"));
}

TEST_F(WorkerSessionTest, AcknowledgesLogsAndPointsOnceTheyAreKept) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  v1::WorkerUp log;
  log.set_sequence(1);
  *log.mutable_log()->mutable_key() = Key("j1", 5);
  v1::WorkerUp points;
  points.set_sequence(2);
  *points.mutable_progress()->mutable_key() = Key("j1", 5);
  EXPECT_THAT(Take(session_.OnMessage(log, now_)), ElementsAre("log"));
  EXPECT_THAT(Take(session_.OnMessage(points, now_)), ElementsAre("points"));
  EXPECT_THAT(Stored(), ElementsAre("ack 1"));
  EXPECT_THAT(Stored(), ElementsAre("ack 2"));
}

TEST_F(WorkerSessionTest, AcknowledgesWhatCannotBeApplied) {
  Ready();
  Report(1, "j1", 5, v1::ATTEMPT_PREPARING);
  EXPECT_THAT(Stored(StoreOutcome::kRefused), ElementsAre("ack 1"));
}

TEST_F(WorkerSessionTest, TellsAStaleEpochThatItIsOver) {
  Ready();
  Report(1, "j1", 5, v1::ATTEMPT_RUNNING);
  EXPECT_THAT(Stored(StoreOutcome::kStale), ElementsAre("#1 over j1/5", "ack 1"));
  Report(2, "j1", 5, v1::ATTEMPT_SUCCEEDED);
  EXPECT_THAT(Stored(StoreOutcome::kStale), ElementsAre("ack 2"));  // once is enough
}

TEST_F(WorkerSessionTest, PassesOverAMessageThatCameBeforeAndClosesAtAGap) {
  Ready();
  Report(1, "j1", 5, v1::ATTEMPT_PREPARING);
  EXPECT_THAT(Report(1, "j1", 5, v1::ATTEMPT_PREPARING), IsEmpty());
  EXPECT_THAT(Report(3, "j1", 5, v1::ATTEMPT_RUNNING), ElementsAre("close"));
  EXPECT_FALSE(session_.usable());
}

TEST_F(WorkerSessionTest, SaysThatACheckpointIsRecordedOnceItIsDurable) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  EXPECT_THAT(Checkpoint(1, "j1", 5, 20), ElementsAre("j1 checkpoint 20"));
  EXPECT_THAT(Stored(), ElementsAre("#2 recorded 20", "ack 1"));
  EXPECT_THAT(Checkpoint(2, "j1", 5, 10), ElementsAre("j1 checkpoint 10"));
  EXPECT_THAT(Stored(StoreOutcome::kRefused), ElementsAre("ack 2"));
}

TEST_F(WorkerSessionTest, ResendsAssignmentThatTheWorkerNeverSaw) {
  Ready();
  EXPECT_THAT(Take(session_.Deliver(AssignOf("j1", 5), kFence, now_)), ElementsAre("#1 assign j1"));
  Take(session_.Disconnected());
  Hello({});
  EXPECT_THAT(StoredAll(), ElementsAre("welcome ack 0", "#1 assign j1", "replan"));
}

TEST_F(WorkerSessionTest, DeliversWhatWasAssignedWhileTheGreetingWasStored) {
  Hello({});
  EXPECT_THAT(Take(session_.Deliver(AssignOf("j1", 5), kFence, now_)), IsEmpty());
  EXPECT_THAT(StoredAll(), ElementsAre("welcome ack 0", "#1 assign j1", "replan"));
}

TEST_F(WorkerSessionTest, TellsStopAndRecordedStepAgainAfterAReconnect) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  Report(1, "j1", 5, v1::ATTEMPT_RUNNING);
  Checkpoint(2, "j1", 5, 20);
  StoredAll();
  EXPECT_THAT(Take(session_.Stop(StopOf("j1", 5))), ElementsAre("#3 stop j1"));
  Take(session_.Disconnected());
  Hello({.attempts = {{Key("j1", 5), v1::ATTEMPT_RUNNING}}});
  EXPECT_THAT(StoredAll(), ElementsAre("welcome ack 0", "#1 recorded 20", "#2 stop j1", "replan"));
}

TEST_F(WorkerSessionTest, TellsTheWorkerWhichOfItsAttemptsAreOver) {
  Hello({.attempts = {{Key("j9", 3), v1::ATTEMPT_RUNNING}}});
  EXPECT_THAT(StoredAll(), ElementsAre("welcome ack 0", "#1 over j9/3", "replan"));
}

TEST_F(WorkerSessionTest, LosesContactThenFences) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  EXPECT_EQ(session_.NextDeadline(), now_ + absl::Seconds(15));
  EXPECT_THAT(TickAfter(absl::Seconds(14)), IsEmpty());
  EXPECT_THAT(TickAfter(absl::Seconds(1)), ElementsAre("replan", "j1 lost"));
  EXPECT_FALSE(session_.usable());
  EXPECT_EQ(session_.NextDeadline(), now_ + kFence);
  EXPECT_THAT(TickAfter(kFence - absl::Seconds(1)), IsEmpty());
  EXPECT_THAT(TickAfter(absl::Seconds(1)), ElementsAre("j1 fenced"));
  EXPECT_THAT(TickAfter(absl::Hours(1)), IsEmpty());
  // The stream was only stuck: what it carries now is too late.
  session_.Forget("j1");
  EXPECT_THAT(StoredAll(), ElementsAre("#2 over j1/5"));
}

TEST_F(WorkerSessionTest, RenewsWithEveryMessage) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  for (int i = 0; i < 100; ++i) {
    EXPECT_THAT(TickAfter(absl::Seconds(14)), IsEmpty());
    EXPECT_THAT(Heartbeat(), ElementsAre("lease"));
  }
}

TEST_F(WorkerSessionTest, GetsNoNewWorkOnceItDrains) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  v1::WorkerUp up;
  up.set_sequence(1);
  *up.mutable_attempt()->mutable_key() = Key("j1", 5);
  up.mutable_attempt()->set_state(v1::ATTEMPT_PREEMPTED);
  up.mutable_attempt()->set_reason(v1::WORKER_DRAINED);
  EXPECT_THAT(Take(session_.OnMessage(up, now_)), ElementsAre("j1 ATTEMPT_PREEMPTED"));
  EXPECT_FALSE(session_.usable());
  EXPECT_TRUE(session_.Describe().connected());
  session_.Forget("j1");
  Hello({.incarnation = 2});
  StoredAll();
  EXPECT_TRUE(session_.usable());
}

// The simulation's seed 491: the agent handed back, ended, and its next start told of it again.
TEST_F(WorkerSessionTest, GetsWorkAgainWhereItHandedBackBeforeItsNewStart) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  Take(session_.Disconnected());
  Hello({.incarnation = 2, .attempts = {{Key("j1", 5), v1::ATTEMPT_PREEMPTED}}});
  StoredAll();
  v1::WorkerUp up;
  up.set_sequence(1);
  *up.mutable_attempt()->mutable_key() = Key("j1", 5);
  up.mutable_attempt()->set_state(v1::ATTEMPT_PREEMPTED);
  up.mutable_attempt()->set_reason(v1::WORKER_DRAINED);
  EXPECT_THAT(Take(session_.OnMessage(up, now_)), ElementsAre("j1 ATTEMPT_PREEMPTED"));
  EXPECT_TRUE(session_.usable());
}

TEST_F(WorkerSessionTest, RegainsContactOnTheSameStream) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  Report(1, "j1", 5, v1::ATTEMPT_RUNNING);
  StoredAll();
  TickAfter(absl::Seconds(20));
  EXPECT_THAT(Heartbeat(), ElementsAre("replan", "j1 regained ATTEMPT_RUNNING", "lease"));
  EXPECT_TRUE(session_.usable());
}

TEST_F(WorkerSessionTest, RegainsContactOnANewStreamWithTheStateThatTheWorkerSays) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  Take(session_.Disconnected());
  EXPECT_THAT(TickAfter(absl::Seconds(60)), ElementsAre("j1 lost"));
  EXPECT_THAT(Hello({.attempts = {{Key("j1", 5), v1::ATTEMPT_RUNNING}}}),
              ElementsAre("j1 regained ATTEMPT_RUNNING", "save worker"));
}

// A controller that was started anew: what it tracks comes from the store.
class RestartedController : public WorkerSessionTest {
 protected:
  RestartedController() {
    v1::WorkerRecord stored = Named("w");
    stored.set_incarnation(1);
    stored.set_boot_id("boot-1");
    session_.~WorkerSession();
    new (&session_) WorkerSession(SessionOptions{}, stored);
    session_.Track(AssignOf("j1", 5), kFence, v1::ATTEMPT_RUNNING, now_);
  }
};

TEST_F(RestartedController, CountsAttemptsAsJustRenewed) {
  EXPECT_THAT(TickAfter(absl::Seconds(14)), IsEmpty());
  EXPECT_THAT(TickAfter(absl::Seconds(1)), ElementsAre("j1 lost"));
}

TEST_F(RestartedController, AcceptsAReturningWorker) {
  EXPECT_THAT(Hello({.attempts = {{Key("j1", 5), v1::ATTEMPT_RUNNING}}}), ElementsAre("save worker"));
  EXPECT_THAT(StoredAll(), ElementsAre("welcome ack 0", "replan"));
  EXPECT_THAT(Report(1, "j1", 5, v1::ATTEMPT_SUCCEEDED), ElementsAre("j1 ATTEMPT_SUCCEEDED"));
}

TEST_F(RestartedController, WaitsForTheEndThatIsListedButNotToldYet) {
  Hello({.incarnation = 2, .earlier_ranks_dead = true, .attempts = {{Key("j1", 5), v1::ATTEMPT_SUCCEEDED}}});
  EXPECT_THAT(StoredAll(), ElementsAre("welcome ack 0", "replan"));
}

TEST_F(RestartedController, GivesUpAtOnceWhereTheAgentProvesItsRanksDead) {
  EXPECT_THAT(
      Hello({.incarnation = 2, .earlier_ranks_dead = true}),
      ElementsAre("j1 dead: worker w: the agent was started anew and its earlier ranks are dead", "save worker"));
}

TEST_F(RestartedController, GivesUpAtOnceWhereTheMachineWasStartedAnew) {
  // Whatever the journal says: nothing survives a boot.
  EXPECT_THAT(Hello({.incarnation = 2, .boot = "boot-2", .attempts = {{Key("j1", 5), v1::ATTEMPT_RUNNING}}}),
              ElementsAre("j1 dead: worker w: the machine was started anew", "save worker"));
  session_.Forget("j1");
  EXPECT_THAT(StoredAll(), ElementsAre("welcome ack 0", "#1 over j1/5", "replan"));
}

TEST_F(RestartedController, WaitsForTheFenceWithoutProof) {
  EXPECT_THAT(Hello({.incarnation = 2}), ElementsAre("save worker"));
  StoredAll();
  now_ += absl::Seconds(10);
  Heartbeat();  // renews the worker, not the attempt
  EXPECT_THAT(TickAfter(absl::Seconds(10)), ElementsAre("j1 lost"));
  EXPECT_TRUE(session_.usable());
  Heartbeat();
  // A second stream of the same agent proves nothing either.
  EXPECT_THAT(Hello({.incarnation = 2}), ElementsAre("save worker"));
  StoredAll();
  EXPECT_THAT(TickAfter(kFence), ElementsAre("replan", "j1 fenced"));
}

TEST_F(RestartedController, RefusesAnAgentThatWasReplaced) {
  EXPECT_THAT(Hello({.incarnation = 0}),
              ElementsAre("refused: worker w has been started again since (incarnation 1, this one is 0): two agents "
                          "must not share a state folder",
                          "close"));
}

TEST_F(WorkerSessionTest, RefusesAnotherProtocol) {
  session_.Connected(now_);
  v1::WorkerUp up;
  up.mutable_hello()->set_min_protocol(2);
  up.mutable_hello()->set_max_protocol(3);
  EXPECT_THAT(Take(session_.OnMessage(up, now_)),
              ElementsAre("refused: the worker speaks protocol 2 to 3, this controller 1 to 1: upgrade this controller",
                          "close"));
  EXPECT_THAT(Heartbeat(), IsEmpty());
}

TEST_F(WorkerSessionTest, RefusesAStreamWithoutAGreeting) {
  session_.Connected(now_);
  EXPECT_THAT(Heartbeat(), ElementsAre("refused: the first message must be Hello", "close"));
}

TEST_F(WorkerSessionTest, ForgetsOutcomesOfAnEarlierStream) {
  Ready();
  Take(session_.Deliver(AssignOf("j1", 5), kFence, now_));
  Report(1, "j1", 5, v1::ATTEMPT_RUNNING);
  Take(session_.Disconnected());
  session_.Connected(now_);
  EXPECT_THAT(Stored(), IsEmpty());  // its sequence meant another stream
}

}  // namespace
}  // namespace studio::controller
