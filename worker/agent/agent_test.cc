// The real studio-worker with the real no-op trainer, against a controller that follows the test's script.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/artifact/sha256.h"
#include "common/env/file_lock.h"
#include "common/env/posix_env.h"
#include "common/env/posix_launcher.h"
#include "common/env/unique_fd.h"
#include "common/metrics/http_get.h"
#include "common/status/testing.h"
#include "common/time/patience.h"
#include "common/version/version.h"
#include "worker/agent/fake_controller.h"
#include "worker/agent/journal.h"

namespace studio::worker {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Labels = std::vector<std::pair<std::string, std::string>>;

class AgentTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = absl::StrCat(testing::TempDir(), testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(root_);
    ASSERT_OK(env_.MakeFolders(root_));
    controller_ = std::make_unique<FakeController>(root_ + "/content");
    controller_->Start();
  }

  void StartWorker(const std::vector<std::string>& more_flags = {}) {
    LaunchSpec spec;
    spec.argv = {std::filesystem::absolute("worker/agent/studio-worker").string(),
                 "--controller",
                 absl::StrCat("127.0.0.1:", controller_->port()),
                 "--state-dir",
                 StateDir(),
                 "--trainer",
                 trainer_};
    spec.argv.insert(spec.argv.end(), more_flags.begin(), more_flags.end());
    spec.environment = EnvironmentWith({});
    absl::StatusOr<std::unique_ptr<Process>> worker = launcher_.Launch(spec);
    ASSERT_OK(worker);
    worker_ = *std::move(worker);
  }

  ProcessEnd AwaitWorkerEnd() {
    pollfd wait = {worker_->ended(), POLLIN, 0};
    EXPECT_EQ(poll(&wait, 1, 30'000), 1) << "the worker does not end";
    return worker_->Reap().value_or(ProcessEnd{-1, -1});
  }

  // Returns once every rank is dead: each holds the lock.
  void AwaitRanksDead() { EXPECT_OK(FileLock::Acquire(StateDir() + "/ranks.lock")); }

  // Nobody listens there, though somebody else may soon.
  static std::string FreeAddress() {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return absl::StrCat("127.0.0.1:", ntohs(address.sin_port));
  }

  std::string StateDir() const { return root_ + "/state"; }

  v1::AttemptKey Key(int32_t attempt) const {
    v1::AttemptKey key;
    key.set_job_id("j1");
    key.set_attempt(attempt);
    key.set_epoch(10 + attempt);
    return key;
  }

  v1::Assign NewAssign(const Labels& labels, int32_t attempt = 1) {
    const v1::Hello hello = controller_->Await([](const v1::WorkerUp& up) { return up.has_hello(); }).hello();
    v1::Assign assign;
    *assign.mutable_key() = Key(attempt);
    assign.mutable_job()->set_name("noop");
    for (const auto& [name, value] : labels) (*assign.mutable_job()->mutable_labels())[name] = value;
    v1::RankAssignment& rank = *assign.add_ranks();
    rank.set_worker_id(hello.worker_id());
    rank.add_device_ids("cpu:0");
    return assign;
  }

  // Several ranks on this worker.
  v1::Assign NewGang(const Labels& labels, int ranks) {
    v1::Assign assign = NewAssign(labels);
    for (int rank = 1; rank < ranks; ++rank) {
      v1::RankAssignment& more = *assign.add_ranks();
      more = assign.ranks(0);
      more.set_rank(rank);
      more.set_local_rank(rank);
      more.set_device_ids(0, absl::StrCat("cpu:", rank));
    }
    return assign;
  }

  void SendAssign(const v1::Assign& assign) {
    v1::WorkerDown down;
    *down.mutable_assign() = assign;
    controller_->Send(std::move(down));
  }
  void Assign(const Labels& labels, int32_t attempt = 1) { SendAssign(NewAssign(labels, attempt)); }

  void StopAttempt(v1::Reason reason, double grace_seconds) {
    v1::WorkerDown down;
    *down.mutable_stop()->mutable_key() = Key(1);
    down.mutable_stop()->mutable_stop()->set_reason(reason);
    down.mutable_stop()->set_grace_seconds(grace_seconds);
    controller_->Send(std::move(down));
  }

  v1::CheckpointWritten AwaitCheckpoint() {
    return controller_->Await([](const v1::WorkerUp& up) { return up.has_checkpoint(); }).checkpoint();
  }
  void AwaitStep(int64_t step) {
    controller_->Await([&](const v1::WorkerUp& up) {
      return up.progress().points_size() > 0 && up.progress().points(0).step() >= step;
    });
  }

  std::vector<v1::AttemptState> States() {
    std::vector<v1::AttemptState> states;
    for (const v1::WorkerUp& up : controller_->received()) {
      if (up.has_attempt()) states.push_back(up.attempt().state());
    }
    return states;
  }
  std::vector<int64_t> Steps() {
    std::vector<int64_t> steps;
    for (const v1::WorkerUp& up : controller_->received()) {
      for (const v1::Progress& point : up.progress().points()) steps.push_back(point.step());
    }
    return steps;
  }

  // A trainer that needs data, with the script that prepares it beside it.
  void UseDataPreparation(const std::string& script) {
    const std::string noop = std::filesystem::absolute("tests/noop/noop_trainer").string();
    trainer_ = root_ + "/trainer";
    ASSERT_OK(env_.WriteFile(trainer_, absl::StrCat("#!/bin/sh\n[ \"$1\" = --probe ] || exec ", noop, " \"$@\"\n", noop,
                                                    " --probe && echo needs_data: true\n")));
    ASSERT_OK(env_.WriteFile(root_ + "/studio-dataprep", "#!/bin/sh\n" + script + "\n"));
    for (const std::string& path : {trainer_, root_ + "/studio-dataprep"}) {
      std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    }
  }

  PosixEnv env_;
  PosixLauncher launcher_;
  std::string trainer_ = "tests/noop/noop_trainer";
  std::string root_;
  std::unique_ptr<FakeController> controller_;
  std::unique_ptr<Process> worker_;
};

TEST_F(AgentTest, GreetsWithWhatTheProbeFound) {
  StartWorker();
  const v1::Hello hello = controller_->Await([](const v1::WorkerUp& up) { return up.has_hello(); }).hello();
  EXPECT_EQ(hello.incarnation(), 1);
  EXPECT_TRUE(hello.earlier_ranks_dead());
  EXPECT_EQ(hello.inventory().trainer_version(), "noop");
  EXPECT_EQ(hello.inventory().devices(0).id(), "cpu:0");
  EXPECT_THAT(hello.worker_id(), HasSubstr("-"));
  EXPECT_EQ(hello.boot_id().size(), 36);
}

TEST_F(AgentTest, ProbePrintsTheMachineAndEnds) {
  LaunchSpec spec;
  spec.argv = {std::filesystem::absolute("worker/agent/studio-worker").string(),
               "--probe",
               "--trainer",
               trainer_,
               "--state-dir",
               root_ + "/untouched"};
  spec.environment = EnvironmentWith({});
  ASSERT_OK_AND_ASSIGN(const std::string text, RunForOutput(launcher_, spec));
  EXPECT_THAT(text, HasSubstr("backend     CPU\n"));
  EXPECT_THAT(text, HasSubstr("attention   FLASH_ATTENTION_2: never: SDPA\n"));
  spec.argv.insert(spec.argv.end(), {"--probe-format", "json"});
  ASSERT_OK_AND_ASSIGN(const std::string json, RunForOutput(launcher_, spec));
  EXPECT_THAT(json, HasSubstr("\"trainer_version\": \"noop\""));
  EXPECT_FALSE(std::filesystem::exists(root_ + "/untouched"));
}

TEST_F(AgentTest, SaysWhatAutoBecomesOnThisMachine) {
  StartWorker();
  Assign({});
  const v1::AttemptEvent event =
      controller_->Await([](const v1::WorkerUp& up) { return up.attempt().state() == v1::ATTEMPT_PREPARING; })
          .attempt();
  EXPECT_THAT(event.notes(), testing::Contains(HasSubstr("training.attention_implementation: auto takes SDPA")));
}

TEST_F(AgentTest, RunsAJobToItsEnd) {
  StartWorker();
  Assign({{"noop.print", "hello from the rank"}});
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
  EXPECT_THAT(States(),
              ElementsAre(v1::ATTEMPT_PREPARING, v1::ATTEMPT_STARTING, v1::ATTEMPT_RUNNING, v1::ATTEMPT_SUCCEEDED));
  EXPECT_THAT(Steps(), ElementsAre(1, 2, 3));
  ASSERT_EQ(end.result().files_size(), 1);
  EXPECT_EQ(end.result().uri(), "studio:");
  EXPECT_EQ(end.result().files(0).path(), "result.txt");
  EXPECT_TRUE(controller_->store().Has(end.result().files(0).sha256()));
  const v1::LogChunk log = controller_->Await([](const v1::WorkerUp& up) { return up.has_log(); }).log();
  EXPECT_EQ(log.data(), "hello from the rank\n");
  EXPECT_EQ(log.offset(), 0);
}

TEST_F(AgentTest, ACrashNamesTheRankAndTheSignal) {
  StartWorker();
  Assign({{"noop.fail", "crash"}, {"noop.print", "famous last words"}});
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_FAILED);
  EXPECT_EQ(end.reason(), v1::CRASH);
  EXPECT_EQ(end.signal(), SIGABRT);
  EXPECT_EQ(end.failed_rank(), 0);
  EXPECT_THAT(end.message(), HasSubstr("rank 0 was killed by signal 6"));
  EXPECT_THAT(end.message(), HasSubstr("famous last words"));
}

TEST_F(AgentTest, ADeadRankEndsTheOthersAndIsNamed) {
  StartWorker();
  SendAssign(NewGang({{"noop.steps", "1000000"}, {"noop.step_ms", "5"}, {"noop.fail.1", "signal 9"}}, 3));
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_FAILED);
  EXPECT_EQ(end.state(), v1::ATTEMPT_FAILED);
  EXPECT_EQ(end.failed_rank(), 1);
  EXPECT_EQ(end.signal(), SIGKILL);
  EXPECT_EQ(end.reason(), v1::CRASH);
}

// The rank that failed may take longer to end than those that notice.
TEST_F(AgentTest, ARankThatOnlyLostTheOthersIsNotTheCause) {
  StartWorker();
  SendAssign(NewGang({{"noop.steps", "1000000"},
                      {"noop.fail", "lost: connection closed by peer"},
                      {"noop.fail.1", "DEVICE_OOM: the device has no memory left"},
                      {"noop.step_ms.1", "500"}},
                     3));
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_FAILED);
  EXPECT_EQ(end.failed_rank(), 1);
  EXPECT_EQ(end.reason(), v1::DEVICE_OOM);
  EXPECT_THAT(end.message(), HasSubstr("no memory left"));
}

TEST_F(AgentTest, ALostPeerThatNeverEndsIsKilledAndTheOneThatSaidSoIsNamed) {
  StartWorker();
  SendAssign(NewGang({{"noop.fail.0", "lost: no word from rank 1"}, {"noop.fail.1", "deaf"}}, 2));
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_FAILED);
  EXPECT_EQ(end.failed_rank(), 0);
  EXPECT_THAT(end.message(), HasSubstr("no word from rank 1"));
}

TEST_F(AgentTest, RankZeroSpeaksForAll) {
  StartWorker();
  SendAssign(NewGang({{"noop.steps", "2"}, {"noop.checkpoint_every", "2"}, {"noop.print", "hello"}}, 2));
  EXPECT_EQ(AwaitCheckpoint().manifest().shards_size(), 1);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
  EXPECT_THAT(Steps(), ElementsAre(1, 2));
  std::set<int> ranks;
  for (const v1::WorkerUp& up : controller_->received()) {
    if (up.has_log()) ranks.insert(up.log().rank());
  }
  EXPECT_THAT(ranks, ElementsAre(0, 1)) << "each rank has a log of its own";
}

TEST_F(AgentTest, AFailureThatTheTrainerExplainsKeepsItsReasonAndWords) {
  StartWorker();
  Assign({{"noop.fail", "DEVICE_OOM: 3 GiB more than cpu:0 has"}});
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_FAILED);
  EXPECT_EQ(end.reason(), v1::DEVICE_OOM);
  EXPECT_EQ(end.message(), "3 GiB more than cpu:0 has");
  EXPECT_EQ(end.exit_code(), 71);
}

TEST_F(AgentTest, AnExitCodeWithoutAWordIsReadByTheTable) {
  StartWorker();
  Assign({{"noop.fail", "exit 72"}});
  EXPECT_EQ(controller_->AwaitState(v1::ATTEMPT_FAILED).reason(), v1::HOST_OOM);
}

TEST_F(AgentTest, ARankThatIsKilledIsACrashAndTheWorkerLivesOn) {
  StartWorker();
  Assign({{"noop.fail", "signal 9"}});
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_FAILED, 1);
  EXPECT_EQ(end.reason(), v1::CRASH) << "no memory was short: the same plan again";
  EXPECT_EQ(end.signal(), SIGKILL);
  Assign({}, 2);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED, 2);
}

TEST_F(AgentTest, AGentleStopHandsBackAtACheckpoint) {
  StartWorker();
  Assign({{"noop.steps", "1000000"}, {"noop.step_ms", "5"}});
  AwaitStep(3);
  StopAttempt(v1::PREEMPTED_BY_SCHEDULER, 30);
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_PREEMPTED);
  EXPECT_EQ(end.reason(), v1::PREEMPTED_BY_SCHEDULER);
  EXPECT_FALSE(end.has_result());
  // Before the end: afterwards its epoch is over and nothing more counts.
  const std::vector<v1::WorkerUp> received = controller_->received();
  const auto at = [&](const auto& wanted) { return std::find_if(received.begin(), received.end(), wanted); };
  const auto checkpoint = at([](const v1::WorkerUp& up) { return up.has_checkpoint(); });
  const auto ended = at([](const v1::WorkerUp& up) { return up.attempt().state() == v1::ATTEMPT_PREEMPTED; });
  ASSERT_LT(checkpoint, ended);
  const v1::CheckpointManifest& manifest = checkpoint->checkpoint().manifest();
  EXPECT_EQ(manifest.step(), Steps().back());
  EXPECT_EQ(manifest.uri(), "studio:");
  EXPECT_EQ(manifest.epoch(), Key(1).epoch());
  EXPECT_TRUE(controller_->store().Has(manifest.shards(0).file().sha256()));
}

TEST_F(AgentTest, AStopThatIsNotHeardEndsInAKill) {
  StartWorker();
  Assign({{"noop.fail", "deaf"}});
  controller_->AwaitState(v1::ATTEMPT_RUNNING);
  StopAttempt(v1::CANCELLED_BY_USER, 0.2);
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_CANCELLED);
  EXPECT_EQ(end.reason(), v1::CANCELLED_BY_USER);
  EXPECT_THAT(end.message(), HasSubstr("did not stop within 200ms"));
  EXPECT_EQ(end.signal(), SIGKILL);
}

TEST_F(AgentTest, AnEpochThatIsOverEndsWithoutAWord) {
  StartWorker();
  Assign({{"noop.fail", "deaf"}});
  controller_->AwaitState(v1::ATTEMPT_RUNNING);
  v1::WorkerDown down;
  *down.mutable_epoch_over() = Key(1);
  controller_->Send(std::move(down));
  Assign({}, 2);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED, 2);
  for (const v1::WorkerUp& up : controller_->received()) {
    if (up.has_attempt() && up.attempt().key().attempt() == 1) {
      EXPECT_LE(up.attempt().state(), v1::ATTEMPT_RUNNING) << up.ShortDebugString();
    }
  }
}

TEST_F(AgentTest, RanksEndWhenTheirAgentIsKilledAndTheNextOneProvesIt) {
  StartWorker();
  Assign({{"noop.steps", "1000000"}, {"noop.step_ms", "5"}});
  controller_->AwaitState(v1::ATTEMPT_RUNNING);
  EXPECT_THAT(FileLock::TryAcquire(StateDir() + "/ranks.lock"), StatusIs(absl::StatusCode::kUnavailable, testing::_));
  kill(worker_->pid(), SIGKILL);
  EXPECT_EQ(AwaitWorkerEnd(), (ProcessEnd{0, SIGKILL}));
  AwaitRanksDead();

  StartWorker();
  const v1::Hello hello =
      controller_->Await([](const v1::WorkerUp& up) { return up.hello().incarnation() == 2; }).hello();
  EXPECT_TRUE(hello.earlier_ranks_dead());
  // Its end, where something of it was still to be told, or nothing.
  for (const v1::RunningAttempt& attempt : hello.attempts()) EXPECT_EQ(attempt.state(), v1::ATTEMPT_FAILED);
  Assign({}, 2);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED, 2);
}

TEST_F(AgentTest, TrainsOnWhileTheControllerIsAwayAndThenTellsAll) {
  StartWorker();
  Assign({{"noop.steps", "200"}, {"noop.step_ms", "5"}});
  AwaitStep(5);
  controller_->Stop();
  const size_t before = controller_->received().size();
  controller_->Start();
  const v1::Hello hello = controller_->Await([](const v1::WorkerUp& up) { return up.has_hello(); }, before).hello();
  EXPECT_EQ(hello.incarnation(), 1);
  ASSERT_EQ(hello.attempts_size(), 1);
  EXPECT_EQ(hello.attempts(0).state(), v1::ATTEMPT_RUNNING);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
  std::vector<int64_t> steps = Steps();
  std::sort(steps.begin(), steps.end());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  EXPECT_EQ(steps.size(), 200) << "a point is missing";
}

TEST_F(AgentTest, AnEndThatNobodyAcknowledgedIsToldAgainByTheNextStart) {
  StartWorker();
  const v1::Assign assign = NewAssign({});
  controller_->SetAcknowledging(false);
  SendAssign(assign);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
  kill(worker_->pid(), SIGKILL);
  AwaitWorkerEnd();
  const size_t before = controller_->received().size();
  controller_->SetAcknowledging(true);
  StartWorker();
  const v1::Hello hello = controller_->Await([](const v1::WorkerUp& up) { return up.has_hello(); }, before).hello();
  ASSERT_EQ(hello.attempts_size(), 1);
  EXPECT_EQ(hello.attempts(0).state(), v1::ATTEMPT_SUCCEEDED);
  const v1::WorkerUp again =
      controller_->Await([](const v1::WorkerUp& up) { return up.attempt().state() == v1::ATTEMPT_SUCCEEDED; }, before);
  EXPECT_EQ(again.attempt().result().files_size(), 1);
}

TEST_F(AgentTest, ACheckpointThatNobodyAcknowledgedIsToldBeforeTheEndThatTheNextStartReports) {
  StartWorker();
  const v1::Assign assign =
      NewAssign({{"noop.steps", "1000000"}, {"noop.step_ms", "5"}, {"noop.checkpoint_every", "2"}});
  controller_->SetAcknowledging(false);
  SendAssign(assign);
  AwaitCheckpoint();
  kill(worker_->pid(), SIGKILL);
  AwaitWorkerEnd();
  const size_t before = controller_->received().size();
  controller_->SetAcknowledging(true);
  StartWorker();
  const v1::Hello hello = controller_->Await([](const v1::WorkerUp& up) { return up.has_hello(); }, before).hello();
  ASSERT_EQ(hello.attempts_size(), 1) << "a controller that misses it ends it before its checkpoint arrives";
  EXPECT_EQ(hello.attempts(0).state(), v1::ATTEMPT_FAILED);
  const v1::AttemptEvent end =
      controller_->Await([](const v1::WorkerUp& up) { return up.attempt().state() == v1::ATTEMPT_FAILED; }, before)
          .attempt();
  EXPECT_EQ(end.reason(), v1::NODE_LOST);
  const std::vector<v1::WorkerUp> received = controller_->received();
  const auto from = received.begin() + static_cast<std::ptrdiff_t>(before);
  const auto first = [&](const auto& wanted) { return std::find_if(from, received.end(), wanted); };
  EXPECT_LT(first([](const v1::WorkerUp& up) { return up.has_checkpoint(); }),
            first([](const v1::WorkerUp& up) { return up.attempt().state() == v1::ATTEMPT_FAILED; }));
}

// What was assigned and never begun is not ended: the controller sends it again.
TEST_F(AgentTest, AnAttemptOfWhichNothingWasSaidIsNotListedByTheNextStart) {
  ASSERT_OK(env_.MakeFolders(StateDir()));
  {
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Journal> journal, Journal::Open(env_, StateDir() + "/journal"));
    JournalRecord record;
    *record.mutable_assigned()->mutable_key() = Key(1);
    ASSERT_OK(journal->Append(record));
    ASSERT_OK(journal->Sync());
  }
  StartWorker();
  const v1::Hello hello = controller_->Await([](const v1::WorkerUp& up) { return up.has_hello(); }).hello();
  EXPECT_THAT(hello.attempts(), IsEmpty());
  Assign({});
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
}

TEST_F(AgentTest, ResumesFromTheRecordedCheckpoint) {
  StartWorker();
  Assign({{"noop.steps", "6"}, {"noop.checkpoint_every", "4"}, {"noop.fail", "crash"}, {"noop.fail_at", "6"}});
  controller_->AwaitState(v1::ATTEMPT_FAILED, 1);
  const v1::CheckpointWritten written = AwaitCheckpoint();
  const size_t before = controller_->received().size();
  v1::Assign again = NewAssign({{"noop.steps", "6"}}, 2);
  *again.mutable_checkpoint() = written.manifest();
  SendAssign(again);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED, 2);
  std::vector<int64_t> steps;
  const std::vector<v1::WorkerUp> received = controller_->received();
  for (size_t i = before; i < received.size(); ++i) {
    for (const v1::Progress& point : received[i].progress().points()) steps.push_back(point.step());
  }
  EXPECT_THAT(steps, ElementsAre(5, 6));
}

TEST_F(AgentTest, AnotherWorkerResumesWithWhatTheControllerKept) {
  StartWorker();
  Assign({{"noop.steps", "6"}, {"noop.checkpoint_every", "4"}, {"noop.fail", "crash"}, {"noop.fail_at", "6"}});
  controller_->AwaitState(v1::ATTEMPT_FAILED, 1);
  const v1::CheckpointWritten written = AwaitCheckpoint();
  kill(worker_->pid(), SIGKILL);
  AwaitWorkerEnd();
  AwaitRanksDead();
  std::filesystem::remove_all(StateDir());
  const size_t before = controller_->received().size();
  StartWorker();
  const v1::Hello hello = controller_->Await([](const v1::WorkerUp& up) { return up.has_hello(); }, before).hello();
  v1::Assign again = NewAssign({{"noop.steps", "6"}}, 2);
  again.mutable_ranks(0)->set_worker_id(hello.worker_id());
  *again.mutable_checkpoint() = written.manifest();
  SendAssign(again);
  EXPECT_THAT(controller_->AwaitState(v1::ATTEMPT_SUCCEEDED, 2).result().files_size(), 1);
}

TEST_F(AgentTest, InputsArriveByHashAndTheJobNamesLocalFiles) {
  ASSERT_OK(env_.WriteFile(root_ + "/rows.jsonl", "{}\n"));
  ASSERT_OK_AND_ASSIGN(const v1::FileRef rows,
                       controller_->store().Add(root_ + "/rows.jsonl", "rows.jsonl", ContentStore::Mode::kCopy));
  StartWorker();
  v1::Assign assign = NewAssign({{"noop.print_data", "1"}});
  assign.mutable_job()->mutable_dataset()->set_train_dataframe("/home/client/rows.jsonl");
  v1::Input& input = *assign.add_inputs();
  input.set_field("dataset.train_dataframe");
  input.mutable_artifact()->set_uri("studio:");
  input.mutable_artifact()->set_single_file(true);
  *input.mutable_artifact()->add_files() = rows;
  SendAssign(assign);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
  const std::string printed = controller_->Await([](const v1::WorkerUp& up) { return up.has_log(); }).log().data();
  EXPECT_THAT(printed, HasSubstr(StateDir() + "/inputs/"));
}

TEST_F(AgentTest, AFileOutsideTheSharedRootsIsBadInputThatNamesThem) {
  ASSERT_OK(env_.MakeFolders(root_ + "/shared"));
  ASSERT_OK(env_.WriteFile(root_ + "/secret.jsonl", "{}\n"));
  StartWorker({"--shared-root", root_ + "/shared"});
  v1::Assign assign = NewAssign({});
  assign.mutable_job()->mutable_dataset()->set_train_dataframe("file:" + root_ + "/shared/../secret.jsonl");
  SendAssign(assign);
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_FAILED);
  EXPECT_EQ(end.reason(), v1::BAD_INPUT);
  EXPECT_THAT(end.message(), HasSubstr("dataset.train_dataframe"));
  EXPECT_THAT(end.message(), HasSubstr(root_ + "/shared"));
}

TEST_F(AgentTest, DataIsPreparedBeforeAnyRankStarts) {
  UseDataPreparation("grep -q job_id \"$2\" && echo prepared");
  StartWorker();
  Assign({{"noop.print", "trained"}});
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
  std::string log;
  for (const v1::WorkerUp& up : controller_->received()) {
    if (!up.has_log()) continue;
    EXPECT_EQ(up.log().offset(), log.size()) << "one log, whoever writes it";
    log += up.log().data();
  }
  EXPECT_EQ(log, "prepared\ntrained\n");
}

TEST_F(AgentTest, DataThatCannotBePreparedEndsTheAttemptAsBadInput) {
  UseDataPreparation("echo rows.jsonl:7: not UTF-8 >&2; exit 65");
  StartWorker();
  Assign({});
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_FAILED);
  EXPECT_EQ(end.reason(), v1::BAD_INPUT);
  EXPECT_THAT(end.message(), HasSubstr("rows.jsonl:7: not UTF-8"));
  EXPECT_THAT(States(), ElementsAre(v1::ATTEMPT_PREPARING, v1::ATTEMPT_FAILED));
}

TEST_F(AgentTest, TheProgramThatPreparesDataMayLieElsewhere) {
  UseDataPreparation("echo prepared elsewhere");
  ASSERT_OK(env_.MakeFolders(root_ + "/elsewhere"));
  std::filesystem::rename(root_ + "/studio-dataprep", root_ + "/elsewhere/prepare");
  StartWorker({"--dataprep", root_ + "/elsewhere/prepare"});
  Assign({});
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
  controller_->Await([](const v1::WorkerUp& up) { return up.log().data() == "prepared elsewhere\n"; });
}

TEST_F(AgentTest, ACancelWhilePreparingNeedsNoGrace) {
  UseDataPreparation("echo begun; exec sleep 1000");
  StartWorker();
  Assign({});
  controller_->Await([](const v1::WorkerUp& up) { return up.log().data() == "begun\n"; });
  StopAttempt(v1::CANCELLED_BY_USER, 1000);
  EXPECT_EQ(controller_->AwaitState(v1::ATTEMPT_CANCELLED).reason(), v1::CANCELLED_BY_USER);
}

TEST_F(AgentTest, SigtermHandsBackAtACheckpointAndEndsWell) {
  StartWorker();
  Assign({{"noop.steps", "1000000"}, {"noop.step_ms", "5"}});
  AwaitStep(2);
  kill(worker_->pid(), SIGTERM);
  const v1::AttemptEvent end = controller_->AwaitState(v1::ATTEMPT_PREEMPTED);
  EXPECT_EQ(end.reason(), v1::WORKER_DRAINED);
  EXPECT_EQ(AwaitCheckpoint().manifest().step(), Steps().back());
  EXPECT_EQ(AwaitWorkerEnd(), (ProcessEnd{0, 0}));
}

TEST_F(AgentTest, EndsWhereTheControllerSpeaksAnotherProtocol) {
  controller_->SetProtocol(kMaxProtocol + 1);
  StartWorker();
  EXPECT_EQ(AwaitWorkerEnd(), (ProcessEnd{1, 0}));
}

TEST_F(AgentTest, TellsPrometheusWhatHappened) {
  const std::string address = FreeAddress();
  StartWorker({"--metrics-listen", address});
  Assign({{"noop.fail", "crash"}, {"noop.fail_at", "2"}});
  controller_->AwaitState(v1::ATTEMPT_FAILED);
  Assign({{"noop.steps", "1000000"}, {"noop.step_ms", "5"}}, 2);
  controller_->AwaitState(v1::ATTEMPT_RUNNING, 2);
  const std::string page = HttpGet(address, "GET /metrics HTTP/1.1\r\n\r\n");
  for (const char* line :
       {"studio_worker_ranks{state=\"ATTEMPT_RUNNING\"} 1", "studio_worker_connected 1", "studio_worker_dials_total 1",
        "studio_worker_attempts_ended_total{reason=\"CRASH\",state=\"ATTEMPT_FAILED\"} 1",
        "studio_worker_dropped_messages_total 0"}) {
    EXPECT_THAT(page, HasSubstr(absl::StrCat("\n", line, "\n")));
  }
  EXPECT_THAT(page, HasSubstr("studio_worker_journal_bytes "));
  EXPECT_THAT(page, HasSubstr("studio_worker_uploaded_bytes_total "));
}

TEST_F(AgentTest, KeepsNoMoreInputsThanItMay) {
  v1::FileRef file;
  file.set_path("rows.jsonl");
  file.set_size_bytes(4);
  file.set_sha256(Sha256Hex("rows"));
  ASSERT_OK_AND_ASSIGN(auto writer, controller_->store().Put(file, 0));
  ASSERT_OK(writer->Append("rows"));
  ASSERT_OK(writer->Commit());
  StartWorker();
  v1::Assign assign = NewAssign({});
  assign.mutable_job()->mutable_dataset()->set_train_dataframe("rows.jsonl");
  v1::Input& input = *assign.add_inputs();
  input.set_field("dataset.train_dataframe");
  input.mutable_artifact()->set_uri("studio:");
  input.mutable_artifact()->set_single_file(true);
  *input.mutable_artifact()->add_files() = file;
  SendAssign(assign);
  controller_->AwaitState(v1::ATTEMPT_SUCCEEDED);
  kill(worker_->pid(), SIGTERM);
  EXPECT_EQ(AwaitWorkerEnd(), ProcessEnd{});
  const auto kept = [&] { return !std::filesystem::is_empty(StateDir() + "/inputs"); };
  EXPECT_TRUE(kept());
  StartWorker({"--cache-bytes", "0"});
  const absl::Time limit = absl::Now() + Patience(absl::Seconds(30));
  while (kept() && absl::Now() < limit) std::this_thread::yield();
  EXPECT_FALSE(kept());
}

TEST_F(AgentTest, ASecondWorkerOnOneStateFolderIsRefused) {
  StartWorker();
  controller_->Await([](const v1::WorkerUp& up) { return up.has_hello(); });
  const std::unique_ptr<Process> first = std::move(worker_);
  StartWorker();
  EXPECT_EQ(AwaitWorkerEnd(), (ProcessEnd{1, 0}));
}

}  // namespace
}  // namespace studio::worker
