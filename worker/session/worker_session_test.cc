#include "worker/session/worker_session.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/testing.h"
#include "common/time/clock.h"

namespace studio::worker {
namespace {

using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Le;

// One word for each action, as a story to compare with.
std::string Name(const SessionAction& action) {
  if (std::holds_alternative<Dial>(action)) return "dial";
  if (const auto* hang_up = std::get_if<HangUp>(&action)) return absl::StrCat("hang up: ", hang_up->why);
  if (const auto* store = std::get_if<Store>(&action)) return absl::StrCat("store ", store->id);
  if (const auto* forget = std::get_if<Forget>(&action)) return absl::StrCat("forget ", forget->id);
  if (const auto* give_up = std::get_if<GiveUp>(&action)) return absl::StrCat("give up: ", give_up->why);
  if (const auto* deliver = std::get_if<Deliver>(&action)) return absl::StrCat("deliver ", deliver->message.sequence());
  const v1::WorkerUp& up = std::get<Send>(action).message;
  const std::string what = up.has_hello()       ? "hello"
                           : up.has_heartbeat() ? "heartbeat"
                           : up.has_attempt()   ? absl::StrCat("state ", up.attempt().state())
                           : up.has_progress()  ? absl::StrCat("step ", up.progress().points(0).step())
                                                : "nothing";
  return absl::StrCat("send ", what, " #", up.sequence(), " ack ", up.acknowledged());
}

std::vector<std::string> Names(const SessionActions& actions) {
  std::vector<std::string> names;
  for (const SessionAction& action : actions) names.push_back(Name(action));
  return names;
}

v1::WorkerUp State(v1::AttemptState state) {
  v1::WorkerUp up;
  up.mutable_attempt()->set_state(state);
  return up;
}

v1::WorkerUp Step(int64_t step) {
  v1::WorkerUp up;
  up.mutable_progress()->add_points()->set_step(step);
  return up;
}

v1::WorkerDown Ack(int64_t sequence) {
  v1::WorkerDown down;
  down.set_acknowledged(sequence);
  return down;
}

v1::WorkerDown Order(int64_t sequence) {
  v1::WorkerDown down;
  down.set_sequence(sequence);
  down.mutable_epoch_over()->set_job_id("j1");
  return down;
}

v1::WorkerDown Welcome() {
  v1::WorkerDown down;
  down.mutable_welcome()->set_protocol(1);
  down.mutable_welcome()->set_heartbeat_seconds(5);
  down.mutable_welcome()->set_lost_after_seconds(15);
  return down;
}

class WorkerSessionTest : public testing::Test {
 protected:
  static WorkerSession::Options SomeOptions() {
    WorkerSession::Options options;
    options.hello.set_worker_id("w1");
    options.hello.set_min_protocol(1);
    options.hello.set_max_protocol(2);
    options.seed = 7;
    return options;
  }

  std::vector<std::string> Tick() { return Names(session_.OnTick(clock_.Now())); }
  std::vector<std::string> Receive(const v1::WorkerDown& down) { return Names(session_.OnMessage(down, clock_.Now())); }
  std::vector<std::string> Break() {
    return Names(session_.OnDisconnected(absl::UnavailableError("reset"), clock_.Now()));
  }
  // An event that is durable at once.
  std::vector<std::string> Report(v1::AttemptState state) {
    const SessionActions actions = session_.Report(State(state));
    return Names(session_.OnStored(std::get<Store>(actions.front()).id, clock_.Now()));
  }
  std::vector<std::string> ReportStep(int64_t step) { return Names(session_.ReportBuffered(Step(step), clock_.Now())); }

  void Open() {
    WaitForTick();
    ASSERT_THAT(Tick(), ElementsAre("dial", "send hello #0 ack 0"));
    Receive(Welcome());
    ASSERT_TRUE(session_.open());
  }
  void WaitForTick() { clock_.Advance(std::max(session_.next_tick() - clock_.Now(), absl::ZeroDuration())); }

  SimulatedClock clock_;
  WorkerSession session_{SomeOptions()};
};

TEST_F(WorkerSessionTest, HasDialledInVainOnlyAfterItTried) {
  Open();
  const absl::Time contact = session_.last_contact();
  // It stood still for two days: no proof that the controller is away.
  clock_.Advance(absl::Hours(48));
  EXPECT_THAT(Tick(), ElementsAre("hang up: nothing from the controller for 15s"));
  EXPECT_EQ(session_.last_vain_dial(), absl::InfinitePast());
  WaitForTick();
  EXPECT_THAT(Tick(), ElementsAre("dial", "send hello #0 ack 0"));
  EXPECT_EQ(session_.last_vain_dial(), absl::InfinitePast());
  Break();
  EXPECT_GE(session_.last_vain_dial(), contact + absl::Hours(48));
  Open();
  EXPECT_EQ(session_.last_vain_dial(), absl::InfinitePast());
}

TEST_F(WorkerSessionTest, GreetsFirstAndIsOpenOnceWelcome) {
  EXPECT_LE(session_.next_tick(), clock_.Now());
  EXPECT_THAT(Tick(), ElementsAre("dial", "send hello #0 ack 0"));
  EXPECT_FALSE(session_.open());
  EXPECT_THAT(Receive(Welcome()), ElementsAre("deliver 0"));
  EXPECT_TRUE(session_.open());
  EXPECT_EQ(session_.last_contact(), clock_.Now());
}

TEST_F(WorkerSessionTest, AnEventIsSentOnlyOnceItIsStored) {
  Open();
  EXPECT_THAT(Names(session_.Report(State(v1::ATTEMPT_RUNNING))), ElementsAre("store 1"));
  EXPECT_THAT(ReportStep(1), IsEmpty()) << "behind an event that is not durable yet";
  EXPECT_THAT(Names(session_.OnStored(1, clock_.Now())), ElementsAre("send state 4 #1 ack 0", "send step 1 #2 ack 0"));
}

TEST_F(WorkerSessionTest, WhatIsAcknowledgedIsForgottenAndOnlyThat) {
  Open();
  Report(v1::ATTEMPT_STARTING);
  ReportStep(1);
  Report(v1::ATTEMPT_SUCCEEDED);
  EXPECT_THAT(Receive(Ack(2)), ElementsAre("forget 1"));
  EXPECT_EQ(session_.unacknowledged(), 1);
  EXPECT_THAT(Receive(Ack(2)), IsEmpty());
  EXPECT_THAT(Receive(Ack(3)), ElementsAre("forget 2"));
  EXPECT_EQ(session_.unacknowledged(), 0);
}

TEST_F(WorkerSessionTest, TheNextStreamGetsWhatWasNotAcknowledgedInOrderUnderNewNumbers) {
  Open();
  Report(v1::ATTEMPT_STARTING);
  Report(v1::ATTEMPT_RUNNING);
  ReportStep(1);
  Receive(Ack(1));
  Break();
  ReportStep(2);
  WaitForTick();
  EXPECT_THAT(Tick(), ElementsAre("dial", "send hello #0 ack 0"));
  EXPECT_THAT(Receive(Welcome()),
              ElementsAre("send state 4 #1 ack 0", "send step 1 #2 ack 0", "send step 2 #3 ack 0", "deliver 0"));
}

TEST_F(WorkerSessionTest, AnAcknowledgementOfAnEarlierStreamMeansNothingNow) {
  Open();
  Report(v1::ATTEMPT_RUNNING);
  Break();
  EXPECT_THAT(Receive(Ack(1)), IsEmpty()) << "late, after the stream broke";
  EXPECT_EQ(session_.unacknowledged(), 1);
}

TEST_F(WorkerSessionTest, EventsOfAnEarlierIncarnationComeFirst) {
  WorkerSession::Options options = SomeOptions();
  options.last_event_id = 9;
  WorkerSession session(options);
  session.Restore(8, State(v1::ATTEMPT_FAILED));
  session.Restore(9, State(v1::ATTEMPT_SUCCEEDED));
  session.OnTick(clock_.Now());
  EXPECT_THAT(Names(session.OnMessage(Welcome(), clock_.Now())),
              ElementsAre("send state 7 #1 ack 0", "send state 6 #2 ack 0", "deliver 0"));
  EXPECT_THAT(Names(session.OnMessage(Ack(2), clock_.Now())), ElementsAre("forget 8", "forget 9"));
  EXPECT_THAT(Names(session.Report(State(v1::ATTEMPT_RUNNING))), ElementsAre("store 10"));
}

TEST_F(WorkerSessionTest, AnOrderIsAcknowledgedOnceItWasActedOn) {
  Open();
  EXPECT_THAT(Receive(Order(1)), ElementsAre("deliver 1"));
  EXPECT_THAT(ReportStep(1), ElementsAre("send step 1 #1 ack 0"));
  EXPECT_THAT(Names(session_.OnHandled(1, clock_.Now())), ElementsAre("send nothing #0 ack 1"));
  EXPECT_THAT(Names(session_.OnHandled(1, clock_.Now())), IsEmpty()) << "said already";
}

TEST_F(WorkerSessionTest, AnOrderThatCameTwiceIsDeliveredOnce) {
  Open();
  Receive(Order(1));
  EXPECT_THAT(Receive(Order(1)), IsEmpty());
}

TEST_F(WorkerSessionTest, AMissingOrderEndsTheStream) {
  Open();
  EXPECT_THAT(Receive(Order(2)), ElementsAre(HasSubstr("hang up: the controller's message 2 came after 0")));
  EXPECT_FALSE(session_.open());
}

TEST_F(WorkerSessionTest, AnOrderBeforeTheWelcomeEndsTheStream) {
  Tick();
  EXPECT_THAT(Receive(Order(1)), ElementsAre("hang up: the controller spoke before its welcome"));
}

TEST_F(WorkerSessionTest, HandlingAnOrderOfABrokenStreamSaysNothingToTheNext) {
  Open();
  Receive(Order(1));
  Break();
  Open();
  EXPECT_THAT(Names(session_.OnHandled(1, clock_.Now())), IsEmpty());
}

TEST_F(WorkerSessionTest, BeatsAsOftenAsTheWelcomeSays) {
  Open();
  clock_.Advance(absl::Seconds(4));
  EXPECT_THAT(Tick(), IsEmpty());
  clock_.Advance(absl::Seconds(1));
  EXPECT_THAT(Tick(), ElementsAre("send heartbeat #0 ack 0"));
  EXPECT_THAT(Tick(), IsEmpty());
}

TEST_F(WorkerSessionTest, ASilentControllerIsDialledAnew) {
  Open();
  std::vector<std::string> last;
  for (int second = 0; second < 15; ++second) {
    clock_.Advance(absl::Seconds(1));
    last = Tick();
  }
  EXPECT_THAT(last, ElementsAre("hang up: nothing from the controller for 15s"));
  WaitForTick();
  EXPECT_THAT(Tick(), ElementsAre("dial", "send hello #0 ack 0"));
}

TEST_F(WorkerSessionTest, AGreetingWithoutAnswerEnds) {
  Tick();
  clock_.Advance(absl::Seconds(10));
  EXPECT_THAT(Tick(), ElementsAre("hang up: no welcome from the controller"));
}

TEST_F(WorkerSessionTest, BacksOffWithJitterUpToALimitAndStartsOverAfterAWelcome) {
  std::vector<double> waits;
  for (int failure = 0; failure < 12; ++failure) {
    WaitForTick();
    Tick();
    Break();
    waits.push_back(absl::ToDoubleSeconds(session_.next_tick() - clock_.Now()));
  }
  EXPECT_GE(waits[0], 0.05);
  EXPECT_LE(waits[0], 0.1);
  EXPECT_GE(waits[3], 0.4);
  EXPECT_LE(waits[3], 0.8);
  EXPECT_GE(waits[11], 2.5);
  EXPECT_LE(waits[11], 5);
  EXPECT_NE(waits[10], waits[11]) << "no jitter";
  Open();
  Break();
  EXPECT_LE(session_.next_tick() - clock_.Now(), absl::Milliseconds(100));
}

TEST_F(WorkerSessionTest, TheSameSeedGivesTheSameBackOff) {
  WorkerSession other(SomeOptions());
  for (WorkerSession* session : {&session_, &other}) {
    session->OnTick(clock_.Now());
    session->OnDisconnected(absl::UnavailableError(""), clock_.Now());
  }
  EXPECT_EQ(session_.next_tick(), other.next_tick());
}

TEST_F(WorkerSessionTest, ARefusedIdleWorkerGivesUp) {
  Tick();
  v1::WorkerDown refused;
  refused.set_refused("protocol 1 is too old: upgrade the worker");
  EXPECT_THAT(Receive(refused), ElementsAre("hang up: protocol 1 is too old: upgrade the worker",
                                            "give up: protocol 1 is too old: upgrade the worker"));
  EXPECT_EQ(session_.next_tick(), absl::InfiniteFuture());
}

TEST_F(WorkerSessionTest, ARefusedWorkerWithWorkRunningTriesAgainLater) {
  session_.SetAttempts({v1::RunningAttempt()});
  Tick();
  v1::WorkerDown refused;
  refused.set_refused("upgrading");
  EXPECT_THAT(Receive(refused), ElementsAre("hang up: upgrading"));
  EXPECT_EQ(session_.next_tick() - clock_.Now(), absl::Seconds(60));
}

TEST_F(WorkerSessionTest, GivesUpOnAControllerThatSpeaksAnotherProtocol) {
  for (const auto& [protocol, who] : {std::pair(0, "the controller (version 9.9)"), std::pair(3, "this worker")}) {
    WorkerSession session(SomeOptions());
    session.OnTick(clock_.Now());
    v1::WorkerDown welcome = Welcome();
    welcome.mutable_welcome()->set_protocol(protocol);
    welcome.mutable_welcome()->set_controller_version("9.9");
    const std::vector<std::string> names = Names(session.OnMessage(welcome, clock_.Now()));
    ASSERT_EQ(names.size(), 2);
    EXPECT_EQ(names[1], absl::StrCat("give up: the controller (version 9.9) speaks protocol ", protocol, " to ",
                                     protocol, ", this worker 1 to 2: upgrade ", who));
    EXPECT_FALSE(session.open());
  }
}

TEST_F(WorkerSessionTest, AnEventOvertakesWhatASlowControllerHasNoRoomFor) {
  WorkerSession::Options options = SomeOptions();
  const auto bytes = static_cast<int64_t>(Step(1).ByteSizeLong());
  options.max_in_flight_bytes = 2 * bytes;
  options.max_buffered_bytes = 8 * bytes;
  WorkerSession session(options);
  session.OnTick(clock_.Now());
  session.OnMessage(Welcome(), clock_.Now());
  std::vector<std::string> sent;
  const auto step = [&](int64_t number) {
    for (const std::string& name : Names(session.ReportBuffered(Step(number), clock_.Now()))) sent.push_back(name);
  };
  for (int64_t number = 1; number <= 5; ++number) step(number);
  EXPECT_THAT(sent, ElementsAre("send step 1 #1 ack 0", "send step 2 #2 ack 0"));
  EXPECT_TRUE(session.congested());
  session.Report(State(v1::ATTEMPT_RUNNING));
  EXPECT_THAT(Names(session.OnStored(1, clock_.Now())), ElementsAre("send state 4 #3 ack 0"));
  // Room for one.
  EXPECT_THAT(Names(session.OnMessage(Ack(1), clock_.Now())), ElementsAre("send step 3 #4 ack 0"));
  for (int64_t number = 6; number <= 15; ++number) step(number);
  EXPECT_EQ(session.dropped(), 4);  // 12 waited, 8 have room
  session.OnDisconnected(absl::UnavailableError("reset"), clock_.Now());
  EXPECT_FALSE(session.congested());  // a controller that is away holds nobody up
  clock_.Advance(session.next_tick() - clock_.Now());
  session.OnTick(clock_.Now());
  // What was under way is the oldest, so it goes for what came later; the event is there.
  EXPECT_THAT(Names(session.OnMessage(Welcome(), clock_.Now())),
              ElementsAre("send state 4 #1 ack 0", "send step 8 #2 ack 0", "send step 9 #3 ack 0", "deliver 0"));
}

TEST_F(WorkerSessionTest, ALongAbsenceDropsTheOldestProgressAndNoEvent) {
  WorkerSession::Options options = SomeOptions();
  options.max_buffered_bytes = Step(1).ByteSizeLong() * 3;
  WorkerSession session(options);
  const SessionActions stored = session.Report(State(v1::ATTEMPT_RUNNING));
  session.OnStored(1, clock_.Now());
  for (int64_t step = 1; step <= 5; ++step) session.ReportBuffered(Step(step), clock_.Now());
  session.OnTick(clock_.Now());
  EXPECT_THAT(Names(session.OnMessage(Welcome(), clock_.Now())),
              ElementsAre("send state 4 #1 ack 0", "send step 3 #2 ack 0", "send step 4 #3 ack 0",
                          "send step 5 #4 ack 0", "deliver 0"));
}

}  // namespace
}  // namespace studio::worker
