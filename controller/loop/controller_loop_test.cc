// The loop over an in-memory store, with workers played by hand and a clock that stands still.
#include "controller/loop/controller_loop.h"

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <optional>

#include "common/status/testing.h"
#include "controller/logs/attempt_logs.h"
#include "controller/store/memory_store.h"

namespace studio::controller {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kHash(64, 'a');

// What a worker was sent, and whether it was hung up on.
struct FakeStream : StreamSink {
  void Send(v1::WorkerDown message) override { received.push_back(std::move(message)); }
  void Close(absl::Status status) override { closed = status; }

  template <typename Has>
  std::optional<v1::WorkerDown> Last(Has has) const {
    for (auto it = received.rbegin(); it != received.rend(); ++it) {
      if (has(*it)) return *it;
    }
    return std::nullopt;
  }
  std::optional<v1::Assign> assign() const {
    const auto down = Last([](const auto& d) { return d.has_assign(); });
    return down ? std::optional(down->assign()) : std::nullopt;
  }
  std::optional<v1::StopAttempt> stop() const {
    const auto down = Last([](const auto& d) { return d.has_stop(); });
    return down ? std::optional(down->stop()) : std::nullopt;
  }
  int64_t over() const {
    const auto down = Last([](const auto& d) { return d.has_epoch_over(); });
    return down ? down->epoch_over().epoch() : 0;
  }
  int64_t recorded() const {
    const auto down = Last([](const auto& d) { return d.has_recorded(); });
    return down ? down->recorded().step() : 0;
  }
  int64_t acknowledged() const { return received.empty() ? 0 : received.back().acknowledged(); }

  std::vector<v1::WorkerDown> received;
  std::optional<absl::Status> closed;
};

struct FakeWorker {
  std::string id;
  int64_t incarnation = 1;
  std::string boot = "boot-1";
  int devices = 1;
  std::shared_ptr<FakeStream> sink = {};
  int64_t stream = 0;
  int64_t sequence = 0;
};

struct Greeting {
  bool earlier_ranks_dead = false;
  std::vector<std::pair<v1::AttemptKey, v1::AttemptState>> attempts = {};
};

class ControllerLoopTest : public testing::Test {
 protected:
  ControllerLoopTest() {
    const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder);
    logs_.emplace(folder);
    Restart();
  }

  // A new controller over what the old one stored.
  void Restart() {
    loop_.reset();
    tasks_.clear();
    LoopOptions options;
    options.now = [this] { return now_; };
    options.post = options.post_logs = [this](std::function<void()> task) { tasks_.push_back(std::move(task)); };
    options.has_blob = [this](const v1::FileRef& file) { return blobs_.count(file.sha256()) > 0; };
    options.remove_blob = [this](const std::string& sha256, absl::Duration) -> int64_t {
      return blobs_.erase(sha256) > 0 ? 100 : 0;
    };
    options.keep_jobs = keep_jobs_;
    options.keep_ended = keep_ended_;
    options.on_failure = [this](absl::Status status) { failure_ = status; };
    loop_.emplace(store_, *logs_, options);
    ASSERT_OK(loop_->Start());
    Run();
  }
  void Run() {
    while (!tasks_.empty()) {
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
      until_tick_ = loop_->Tick();
    }
  }
  // As the executor does: the loop ticks whenever it wants to.
  void Wait(absl::Duration time) {
    for (const absl::Time end = now_ + time; now_ < end;) {
      now_ = std::min(end, now_ + until_tick_);
      until_tick_ = loop_->Tick();
      Run();
    }
  }
  // Nothing of the controller runs meanwhile: SIGSTOP, or its machine sleeps.
  void StandStill(absl::Duration time) {
    now_ += time;
    until_tick_ = loop_->Tick();
    Run();
  }

  static v1::SubmitJobRequest Request(const std::string& request_id = "") {
    v1::SubmitJobRequest request;
    request.set_request_id(request_id);
    v1::Job& job = *request.mutable_job();
    job.set_name("test");
    job.mutable_dataset()->set_train_dataframe("rows.jsonl");
    job.mutable_architecture()->set_llm_backbone("file:/shared/model");
    v1::Input& input = *request.add_inputs();
    input.set_field("dataset.train_dataframe");
    input.mutable_artifact()->set_uri("studio:");
    v1::FileRef& file = *input.mutable_artifact()->add_files();
    file.set_path("rows.jsonl");
    file.set_sha256(kHash);
    return request;
  }
  absl::StatusOr<v1::SubmitJobResponse> Submit(v1::SubmitJobRequest request = Request()) {
    absl::StatusOr<v1::SubmitJobResponse> answer = absl::UnknownError("not answered");
    loop_->Submit("local", std::move(request), [&](auto response) { answer = std::move(response); });
    Run();
    return answer;
  }
  std::string SubmittedId(v1::SubmitJobRequest request = Request()) {
    const auto answer = Submit(std::move(request));
    EXPECT_OK(answer);
    return answer.ok() ? answer->record().id() : "";
  }
  absl::StatusOr<v1::JobRecord> Cancel(const std::string& id) {
    absl::StatusOr<v1::JobRecord> answer = absl::UnknownError("not answered");
    loop_->Cancel(id, [&](auto record) { answer = std::move(record); });
    Run();
    return answer;
  }
  absl::StatusOr<v1::SubmitJobResponse> Retry(const std::string& id, const std::string& request_id = "") {
    v1::RetryJobRequest request;
    request.set_id(id);
    request.set_request_id(request_id);
    absl::StatusOr<v1::SubmitJobResponse> answer = absl::UnknownError("not answered");
    loop_->Retry("local", request, [&](auto response) { answer = std::move(response); });
    Run();
    return answer;
  }
  v1::JobRecord Get(const std::string& id) {
    auto record = loop_->Get(id);
    EXPECT_OK(record);
    return record.ok() ? *record : v1::JobRecord();
  }
  absl::StatusOr<v1::JobRecord> Find(const std::string& id) {
    absl::StatusOr<v1::JobRecord> answer = absl::UnknownError("not answered");
    loop_->Find(id, [&](auto record) { answer = std::move(record); });
    Run();
    return answer;
  }
  std::vector<std::string> Listed() {
    std::vector<std::string> ids;
    const absl::StatusOr<v1::ListJobsResponse> page = loop_->List({});
    EXPECT_OK(page);
    for (const v1::JobRecord& record : page->records()) ids.push_back(record.id());
    return ids;
  }
  std::string StateOf(const std::string& id) { return v1::JobState_Name(Get(id).state()); }

  void Dial(FakeWorker& worker, const Greeting& greeting = {}) {
    worker.sink = std::make_shared<FakeStream>();
    worker.stream = loop_->OpenStream(worker.sink);
    worker.sequence = 0;
    v1::WorkerUp up;
    v1::Hello& hello = *up.mutable_hello();
    hello.set_min_protocol(1);
    hello.set_max_protocol(1);
    hello.set_worker_id(worker.id);
    hello.set_incarnation(worker.incarnation);
    hello.set_boot_id(worker.boot);
    hello.add_shared_roots("/shared");
    hello.set_earlier_ranks_dead(greeting.earlier_ranks_dead);
    hello.mutable_inventory()->set_backend(v1::CPU);
    for (int i = 0; i < worker.devices; ++i) {
      v1::Device& device = *hello.mutable_inventory()->add_devices();
      device.set_id("cpu:" + std::to_string(i));
      device.set_backend(v1::CPU);
    }
    for (const auto& [key, state] : greeting.attempts) {
      v1::RunningAttempt& running = *hello.add_attempts();
      *running.mutable_key() = key;
      running.set_state(state);
    }
    Up(worker, up);
  }
  void HangUp(FakeWorker& worker) {
    loop_->OnStreamClosed(worker.stream);
    Run();
  }
  void Up(FakeWorker& worker, const v1::WorkerUp& up) {
    loop_->OnStreamMessage(worker.stream, up);
    Run();
  }
  void Heartbeat(FakeWorker& worker) {
    v1::WorkerUp up;
    up.mutable_heartbeat();
    Up(worker, up);
  }
  void Report(FakeWorker& worker, const v1::AttemptKey& key, v1::AttemptState state,
              v1::Reason reason = v1::REASON_UNSPECIFIED) {
    v1::WorkerUp up;
    up.set_sequence(++worker.sequence);
    *up.mutable_attempt()->mutable_key() = key;
    up.mutable_attempt()->set_state(state);
    up.mutable_attempt()->set_reason(reason);
    if (state == v1::ATTEMPT_SUCCEEDED) {
      up.mutable_attempt()->mutable_result()->set_uri("studio:");
      v1::FileRef& file = *up.mutable_attempt()->mutable_result()->add_files();
      file.set_path("adapter.safetensors");
      file.set_sha256(kHash);
    }
    Up(worker, up);
  }
  void Checkpoint(FakeWorker& worker, const v1::AttemptKey& key, int64_t step, const std::string& hash = kHash) {
    v1::WorkerUp up;
    up.set_sequence(++worker.sequence);
    *up.mutable_checkpoint()->mutable_key() = key;
    v1::CheckpointManifest& manifest = *up.mutable_checkpoint()->mutable_manifest();
    manifest.set_step(step);
    manifest.set_uri("studio:");
    v1::FileRef& file = *manifest.add_shards()->mutable_file();
    file.set_path("rank-0.safetensors");
    file.set_sha256(hash);
    Up(worker, up);
  }
  // Submits a job and brings it to RUNNING on the worker.
  v1::AttemptKey RunOn(FakeWorker& worker) {
    if (worker.stream == 0) Dial(worker);
    SubmittedId();
    const auto assign = worker.sink->assign();
    EXPECT_TRUE(assign.has_value());
    Report(worker, assign->key(), v1::ATTEMPT_RUNNING);
    return assign->key();
  }

  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
  absl::Duration until_tick_ = absl::InfiniteDuration();
  std::set<std::string> blobs_ = {kHash};
  std::optional<absl::Status> failure_;
  int64_t keep_jobs_ = 10'000;
  absl::Duration keep_ended_ = absl::InfiniteDuration();
  MemoryStore store_;
  std::optional<AttemptLogs> logs_;
  std::deque<std::function<void()>> tasks_;
  std::optional<ControllerLoop> loop_;
};

TEST_F(ControllerLoopTest, RunsAJobFromSubmitToSuccess) {
  FakeWorker worker{.id = "w1"};
  Dial(worker);
  const std::string id = SubmittedId();
  EXPECT_EQ(id, "j1");
  ASSERT_TRUE(worker.sink->assign().has_value());
  const v1::Assign assign = *worker.sink->assign();
  EXPECT_EQ(assign.key().job_id(), "j1");
  EXPECT_EQ(assign.job().training().lora_r(), 16);  // defaults are filled in
  EXPECT_EQ(assign.ranks(0).device_ids(0), "cpu:0");
  EXPECT_EQ(assign.plan().cause(), "submitted");
  EXPECT_FALSE(assign.has_checkpoint());
  Report(worker, assign.key(), v1::ATTEMPT_PREPARING);
  Report(worker, assign.key(), v1::ATTEMPT_RUNNING);
  Report(worker, assign.key(), v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(worker.sink->acknowledged(), 3);
  const v1::JobRecord record = Get(id);
  EXPECT_EQ(record.state(), v1::SUCCEEDED);
  EXPECT_EQ(record.result().files(0).path(), "adapter.safetensors");
  EXPECT_EQ(record.owner(), "local");
}

TEST_F(ControllerLoopTest, SaysWhyAJobWaitsAndStartsItWhenAWorkerComes) {
  const std::string id = SubmittedId();
  EXPECT_THAT(Get(id).message(), HasSubstr("no worker is connected"));
  FakeWorker worker{.id = "w1"};
  Dial(worker);
  EXPECT_EQ(StateOf(id), "RUNNING");
}

TEST_F(ControllerLoopTest, RunsTheNextJobWhenADeviceIsFree) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey first = RunOn(worker);
  const std::string second = SubmittedId();
  EXPECT_EQ(StateOf(second), "PENDING");
  EXPECT_THAT(Get(second).message(), HasSubstr("busy with or kept for j1"));
  Report(worker, first, v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(StateOf(second), "RUNNING");
}

TEST_F(ControllerLoopTest, GivesTheSameJobForTheSameRequest) {
  ASSERT_OK_AND_ASSIGN(const auto first, Submit(Request("r1")));
  EXPECT_FALSE(first.existed());
  v1::SubmitJobRequest changed = Request("r1");
  changed.mutable_job()->set_name("other");
  ASSERT_OK_AND_ASSIGN(const auto again, Submit(changed));
  EXPECT_TRUE(again.existed());
  EXPECT_EQ(again.record().id(), first.record().id());
  EXPECT_EQ(again.record().job().name(), "test");
  EXPECT_NE(SubmittedId(Request("r2")), first.record().id());
  EXPECT_NE(SubmittedId(), SubmittedId());  // without an id each is new
  Restart();
  ASSERT_OK_AND_ASSIGN(const auto later, Submit(Request("r1")));
  EXPECT_TRUE(later.existed());
}

TEST_F(ControllerLoopTest, RefusesWhatCannotBeRight) {
  v1::SubmitJobRequest nameless = Request();
  nameless.mutable_job()->clear_name();
  EXPECT_THAT(Submit(nameless), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name")));
  v1::SubmitJobRequest no_blob = Request();
  no_blob.mutable_inputs(0)->mutable_artifact()->mutable_files(0)->set_sha256(std::string(64, 'b'));
  EXPECT_THAT(Submit(no_blob), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("upload it first")));
  v1::SubmitJobRequest no_input = Request();
  no_input.clear_inputs();
  EXPECT_THAT(Submit(no_input), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dataset.train_dataframe")));
  EXPECT_THAT(Submit(Request(std::string(129, 'x'))),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("129 bytes")));
  EXPECT_THAT(loop_->Get("j1"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("j1")));
}

TEST_F(ControllerLoopTest, ResumesFromTheRecordedCheckpointAfterACrash) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey first = RunOn(worker);
  Checkpoint(worker, first, 20);
  EXPECT_EQ(worker.sink->recorded(), 20);
  Report(worker, first, v1::ATTEMPT_FAILED, v1::CRASH);
  const v1::Assign second = *worker.sink->assign();
  EXPECT_EQ(second.key().attempt(), 2);
  EXPECT_GT(second.key().epoch(), first.epoch());
  EXPECT_EQ(second.checkpoint().step(), 20);
  EXPECT_EQ(StateOf("j1"), "RUNNING");
}

TEST_F(ControllerLoopTest, RecordsOnlyCheckpointsThatAreThere) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  Checkpoint(worker, key, 10, std::string(64, 'b'));
  EXPECT_EQ(worker.sink->recorded(), 0);
  EXPECT_EQ(worker.sink->acknowledged(), 2);  // nothing is gained by sending it again
  EXPECT_FALSE(Get("j1").has_checkpoint());
}

TEST_F(ControllerLoopTest, DoesNotCallItSuccessWithoutTheResult) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  blobs_.clear();
  Report(worker, key, v1::ATTEMPT_SUCCEEDED);
  const v1::JobRecord record = Get("j1");
  EXPECT_EQ(record.attempts(0).reason(), v1::STORAGE);
  EXPECT_EQ(record.attempts_size(), 2);  // tried again
}

TEST_F(ControllerLoopTest, CancelsThroughTheWorker) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  ASSERT_OK_AND_ASSIGN(const auto cancelling, Cancel("j1"));
  EXPECT_EQ(cancelling.state(), v1::CANCELLING);
  ASSERT_TRUE(worker.sink->stop().has_value());
  EXPECT_EQ(worker.sink->stop()->key().epoch(), key.epoch());
  EXPECT_TRUE(worker.sink->stop()->stop().discard());
  Report(worker, key, v1::ATTEMPT_CANCELLED);
  EXPECT_EQ(StateOf("j1"), "CANCELLED");
  ASSERT_OK_AND_ASSIGN(const auto again, Cancel("j1"));
  EXPECT_EQ(again.state(), v1::CANCELLED);
}

TEST_F(ControllerLoopTest, CancelsAWaitingJobAtOnce) {
  const std::string id = SubmittedId();
  ASSERT_OK_AND_ASSIGN(const auto cancelled, Cancel(id));
  EXPECT_EQ(cancelled.state(), v1::CANCELLED);
  FakeWorker worker{.id = "w1"};
  Dial(worker);
  EXPECT_EQ(worker.sink->assign(), std::nullopt);
}

TEST_F(ControllerLoopTest, RetriesAsANewJobFromTheParentsCheckpoint) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  EXPECT_THAT(Retry("j1"), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cancel it first")));
  Checkpoint(worker, key, 20);
  Report(worker, key, v1::ATTEMPT_FAILED, v1::BAD_INPUT);
  EXPECT_EQ(StateOf("j1"), "FAILED");
  ASSERT_OK_AND_ASSIGN(const auto retried, Retry("j1", "r9"));
  EXPECT_EQ(retried.record().id(), "j2");
  EXPECT_EQ(retried.record().parent_id(), "j1");
  EXPECT_EQ(worker.sink->assign()->key().job_id(), "j2");
  EXPECT_EQ(worker.sink->assign()->checkpoint().step(), 20);
  ASSERT_OK_AND_ASSIGN(const auto again, Retry("j1", "r9"));
  EXPECT_EQ(again.record().id(), "j2");
  EXPECT_EQ(StateOf("j1"), "FAILED");  // terminal absorbs
}

TEST_F(ControllerLoopTest, StartsASecondAttemptOnlyAfterTheFence) {
  FakeWorker lost{.id = "w1"}, other{.id = "w2"};
  const v1::AttemptKey key = RunOn(lost);
  Dial(other);
  HangUp(lost);
  for (int minute = 0; minute < 15; ++minute) {
    Wait(absl::Minutes(1));
    Heartbeat(other);
    EXPECT_EQ(other.sink->assign(), std::nullopt) << "after minute " << minute;
  }
  EXPECT_EQ(Get("j1").attempts(0).state(), v1::ATTEMPT_UNKNOWN);
  Wait(absl::Seconds(15));
  Heartbeat(other);
  ASSERT_TRUE(other.sink->assign().has_value());
  EXPECT_EQ(Get("j1").attempts(0).state(), v1::ATTEMPT_FENCED);
  // The lost worker comes back: nothing that it says counts, and it is told to end.
  Dial(lost, {.attempts = {{key, v1::ATTEMPT_RUNNING}}});
  EXPECT_EQ(lost.sink->over(), key.epoch());
  Checkpoint(lost, key, 1000);
  Report(lost, key, v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(lost.sink->acknowledged(), 2);
  EXPECT_EQ(StateOf("j1"), "RUNNING");
  EXPECT_FALSE(Get("j1").has_checkpoint());
}

TEST_F(ControllerLoopTest, GivesADrainedJobToAnotherWorkerOrKeepsItWaiting) {
  FakeWorker draining{.id = "w1"}, other{.id = "w2"};
  const v1::AttemptKey key = RunOn(draining);
  Report(draining, key, v1::ATTEMPT_PREEMPTED, v1::WORKER_DRAINED);
  EXPECT_EQ(StateOf("j1"), "PENDING");
  EXPECT_THAT(Get("j1").message(), HasSubstr("no worker is connected"));
  Dial(other);
  EXPECT_EQ(StateOf("j1"), "RUNNING");
  EXPECT_EQ(Get("j1").attempts_size(), 2);
}

TEST_F(ControllerLoopTest, WakesItselfForTheFence) {
  FakeWorker lost{.id = "w1"};
  RunOn(lost);
  Wait(absl::Seconds(15) - absl::Milliseconds(1));
  EXPECT_EQ(Get("j1").attempts(0).state(), v1::ATTEMPT_RUNNING);
  Wait(absl::Milliseconds(1));
  EXPECT_EQ(Get("j1").attempts(0).state(), v1::ATTEMPT_UNKNOWN);
  Wait(absl::Minutes(15) - absl::Milliseconds(1));
  EXPECT_EQ(StateOf("j1"), "RUNNING");
  Wait(absl::Milliseconds(1));
  EXPECT_EQ(StateOf("j1"), "PENDING");
  EXPECT_EQ(until_tick_, absl::InfiniteDuration());
}

TEST_F(ControllerLoopTest, StartsAnewAtOnceWhereAPersonConfirmsTheDeath) {
  FakeWorker lost{.id = "w1"};
  const v1::AttemptKey key = RunOn(lost);
  const auto confirm = [this](const std::string& id) {
    absl::Status answer = absl::UnknownError("not answered");
    loop_->ConfirmDead("ada", id, [&](const absl::StatusOr<v1::WorkerRecord>& record) { answer = record.status(); });
    Run();
    return answer;
  };
  EXPECT_THAT(confirm("w1"), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("w1 is in contact")));
  EXPECT_THAT(confirm("w9"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("\"w9\"")));
  EXPECT_EQ(StateOf("j1"), "RUNNING");
  Wait(absl::Seconds(15));
  EXPECT_OK(confirm("w1"));
  EXPECT_EQ(StateOf("j1"), "PENDING");
  EXPECT_EQ(Get("j1").attempts(0).reason(), v1::NODE_LOST);
  EXPECT_THAT(Get("j1").attempts(0).message(), HasSubstr("ada confirmed"));
  EXPECT_OK(confirm("w1"));
  EXPECT_EQ(Get("j1").attempts_size(), 1);
}

TEST_F(ControllerLoopTest, FencesNobodyForHavingStoodStillItself) {
  FakeWorker silent{.id = "w1"};
  RunOn(silent);
  Wait(absl::Seconds(10));
  StandStill(absl::Hours(1));
  EXPECT_EQ(Get("j1").attempts(0).state(), v1::ATTEMPT_RUNNING);
  Wait(absl::Seconds(15));
  EXPECT_EQ(Get("j1").attempts(0).state(), v1::ATTEMPT_UNKNOWN);
  StandStill(absl::Hours(1));
  Wait(absl::Minutes(15));
  EXPECT_EQ(StateOf("j1"), "RUNNING");
  Wait(absl::Seconds(15));
  EXPECT_EQ(StateOf("j1"), "PENDING");
}

TEST_F(ControllerLoopTest, RequeuesAtOnceWhereTheOldRanksAreProvenDead) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  Checkpoint(worker, key, 20);
  HangUp(worker);
  ++worker.incarnation;
  Dial(worker, {.earlier_ranks_dead = true});
  EXPECT_EQ(Get("j1").attempts(0).reason(), v1::NODE_LOST);
  ASSERT_TRUE(worker.sink->assign().has_value());
  EXPECT_EQ(worker.sink->assign()->key().attempt(), 2);
  EXPECT_EQ(worker.sink->assign()->checkpoint().step(), 20);
}

TEST_F(ControllerLoopTest, GoesOnWhereItWasAfterARestart) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  const std::string waiting = SubmittedId();
  Restart();
  EXPECT_EQ(StateOf("j1"), "RUNNING");
  EXPECT_EQ(StateOf(waiting), "PENDING");
  EXPECT_EQ(SubmittedId(), "j3");  // no id twice
  Wait(absl::Seconds(14));
  EXPECT_EQ(Get("j1").attempts(0).state(), v1::ATTEMPT_RUNNING);
  Dial(worker, {.attempts = {{key, v1::ATTEMPT_RUNNING}}});
  EXPECT_EQ(worker.sink->assign(), std::nullopt);  // it has it already
  Report(worker, key, v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(StateOf("j1"), "SUCCEEDED");
  EXPECT_EQ(Get("j1").attempts_size(), 1);
  ASSERT_TRUE(worker.sink->assign().has_value());
  EXPECT_EQ(worker.sink->assign()->key().job_id(), waiting);
  EXPECT_GT(worker.sink->assign()->key().epoch(), key.epoch());  // no epoch twice
}

TEST_F(ControllerLoopTest, SendsAnAssignmentThatTheOldControllerOnlyStored) {
  FakeWorker worker{.id = "w1"};
  Dial(worker);
  SubmittedId();
  const int64_t epoch = worker.sink->assign()->key().epoch();
  Restart();
  Dial(worker);  // knows nothing of it
  ASSERT_TRUE(worker.sink->assign().has_value());
  EXPECT_EQ(worker.sink->assign()->key().epoch(), epoch);
}

TEST_F(ControllerLoopTest, TellsAStopAgainAfterARestart) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  ASSERT_OK(Cancel("j1"));
  Restart();
  Dial(worker, {.attempts = {{key, v1::ATTEMPT_RUNNING}}});
  ASSERT_TRUE(worker.sink->stop().has_value());
}

TEST_F(ControllerLoopTest, KeepsLogsAndProgressOverARestart) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  v1::WorkerUp log, progress;
  *log.mutable_log()->mutable_key() = key;
  log.mutable_log()->set_data("hello\n");
  Up(worker, log);
  Up(worker, log);  // sent twice
  *progress.mutable_progress()->mutable_key() = key;
  progress.mutable_progress()->add_points()->set_step(5);
  progress.mutable_progress()->add_points()->set_step(6);
  Up(worker, progress);
  EXPECT_EQ(Get("j1").progress().step(), 6);
  Restart();
  EXPECT_EQ(Get("j1").progress().step(), 6);
  ASSERT_OK_AND_ASSIGN(const std::string text, logs_->ReadLog("j1", 1, 0, 0, 100));
  EXPECT_EQ(text, "hello\n");
}

TEST_F(ControllerLoopTest, KeepsNothingOfAWorkerThatHasNoPartInTheAttempt) {
  FakeWorker worker{.id = "w1"}, stranger{.id = "w2"};
  const v1::AttemptKey key = RunOn(worker);
  Dial(stranger);
  v1::WorkerUp log;
  *log.mutable_log()->mutable_key() = key;
  log.mutable_log()->set_data("forged\n");
  Up(stranger, log);
  Report(stranger, key, v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(StateOf("j1"), "RUNNING");
  EXPECT_EQ(*logs_->ReadLog("j1", 1, 0, 0, 100), "");
}

TEST_F(ControllerLoopTest, ShowsWatchersEveryDurableChangeAndThePoints) {
  FakeWorker worker{.id = "w1"};
  Dial(worker);
  const std::string id = SubmittedId();
  std::vector<std::string> seen;
  size_t points = 0;
  ASSERT_OK_AND_ASSIGN(const int64_t watch, loop_->Watch(id, 0, [&](const v1::JobRecord& record, const auto& more) {
    seen.push_back(v1::JobState_Name(record.state()));
    points += more.size();
  }));
  const v1::AttemptKey key = worker.sink->assign()->key();
  v1::WorkerUp progress;
  *progress.mutable_progress()->mutable_key() = key;
  progress.mutable_progress()->add_points()->set_step(1);
  Up(worker, progress);
  Report(worker, key, v1::ATTEMPT_SUCCEEDED);
  EXPECT_THAT(seen, ElementsAre("RUNNING", "RUNNING", "SUCCEEDED"));
  EXPECT_EQ(points, 1);
  loop_->Unwatch(watch);
  EXPECT_THAT(loop_->Watch("j9", 0, {}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("j9")));
}

TEST_F(ControllerLoopTest, AcknowledgesNothingThatIsNotDurable) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  const int64_t before = worker.sink->acknowledged();
  store_.FailFromNowOn(absl::ResourceExhaustedError("disk full"));
  Report(worker, key, v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(worker.sink->acknowledged(), before);
  EXPECT_EQ(StateOf("j1"), "RUNNING");
  EXPECT_THAT(Submit(), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk full")));
  EXPECT_THAT(Cancel("j1"), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("disk full")));
  ASSERT_TRUE(failure_.has_value());  // the process ends, and starts from what is stored
}

TEST_F(ControllerLoopTest, CollectsACheckpointOnceANewerOneIsRecorded) {
  const std::string first(64, '1'), second(64, '2');
  blobs_.insert({first, second});
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  Checkpoint(worker, key, 10, first);
  Checkpoint(worker, key, 20, second);
  EXPECT_EQ(blobs_.count(first), 1);  // somebody may be reading it
  Heartbeat(worker);
  Wait(absl::Minutes(10));
  EXPECT_THAT(blobs_, ElementsAre(second, kHash));  // kHash is the job's input
  Restart();
  Wait(absl::Hours(1));
  EXPECT_THAT(blobs_, ElementsAre(second, kHash));
}

TEST_F(ControllerLoopTest, CollectsNothingThatTheDiskMayStillName) {
  const std::string first(64, '1'), second(64, '2');
  blobs_.insert({first, second});
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  Checkpoint(worker, key, 10, first);
  store_.FailFromNowOn(absl::ResourceExhaustedError("disk full"));
  Checkpoint(worker, key, 20, second);
  Wait(absl::Hours(1));
  loop_->CollectUploads({first, second}, absl::Hours(24));
  // Whichever of the two the disk names after the controller's end.
  EXPECT_THAT(blobs_, ElementsAre(first, second, kHash));
}

TEST_F(ControllerLoopTest, CollectsUploadsThatNobodyNamesButNotWhileAWorkerMayComeBackWithWordOfThem) {
  const std::string orphan(64, '1');
  blobs_.insert(orphan);
  FakeWorker worker{.id = "w1"};
  RunOn(worker);
  HangUp(worker);
  loop_->CollectUploads({orphan, kHash}, absl::Hours(24));
  EXPECT_EQ(blobs_.count(orphan), 1);
  Dial(worker);
  loop_->CollectUploads({orphan, kHash}, absl::Hours(24));
  EXPECT_EQ(blobs_.count(orphan), 1);  // it has said nothing yet
  for (int i = 0; i < 20; ++i) {
    Wait(absl::Seconds(5));
    Heartbeat(worker);
  }
  loop_->CollectUploads({orphan, kHash}, absl::Hours(24));
  EXPECT_THAT(blobs_, ElementsAre(kHash));
}

TEST_F(ControllerLoopTest, KeepsWhatAnotherJobNamesAgain) {
  const std::string checkpoint(64, '1');
  blobs_.insert(checkpoint);
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  Checkpoint(worker, key, 10, checkpoint);
  ASSERT_OK(Cancel("j1"));
  Report(worker, key, v1::ATTEMPT_CANCELLED);
  ASSERT_OK(Retry("j1"));
  const v1::AttemptKey child = worker.sink->assign()->key();
  Report(worker, child, v1::ATTEMPT_RUNNING);
  const std::string newer(64, '2');
  blobs_.insert(newer);
  Checkpoint(worker, child, 20, newer);
  Wait(absl::Hours(1));
  EXPECT_THAT(blobs_, ElementsAre(checkpoint, newer, kHash));  // j1 may be retried again
}

TEST_F(ControllerLoopTest, ArchivesTheOldestOfTheJobsThatEnded) {
  keep_jobs_ = 2;
  Restart();
  FakeWorker worker{.id = "w1"};
  for (int i = 1; i <= 4; ++i) {
    if (i == 1) Dial(worker);
    SubmittedId(Request("r" + std::to_string(i)));
    Report(worker, worker.sink->assign()->key(), v1::ATTEMPT_SUCCEEDED);
    now_ += absl::Seconds(1);
  }
  EXPECT_THAT(Listed(), ElementsAre("j4", "j3"));
  for (int start = 0; start < 2; ++start, Restart()) {
    ASSERT_OK_AND_ASSIGN(const v1::JobRecord old, Find("j1"));
    EXPECT_EQ(old.state(), v1::SUCCEEDED);
    EXPECT_EQ(Find("j3")->id(), "j3");
    EXPECT_THAT(Find("j9"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no job j9")));
    // Whatever is asked of it: it ended.
    ASSERT_OK_AND_ASSIGN(const auto again, Submit(Request("r1")));
    EXPECT_TRUE(again.existed());
    EXPECT_EQ(again.record().id(), "j1");
    EXPECT_EQ(Cancel("j1")->state(), v1::SUCCEEDED);
    EXPECT_THAT(Retry("j1"), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("j1 was archived")));
    EXPECT_THAT(Retry("j9"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no job j9")));
    v1::SubmitJobRequest next = Request();
    next.mutable_job()->mutable_architecture()->set_pretrained_adapter("job:j1/result");
    EXPECT_THAT(Submit(next), StatusIs(absl::StatusCode::kNotFound, HasSubstr("keeps no files")));
    EXPECT_THAT(loop_->NotInMemory({"j1", "j3", "x"}), ElementsAre("j1"));
  }
}

// Seed 56 of the simulation.
TEST_F(ControllerLoopTest, ACancelMayCrossTheArchiving) {
  keep_jobs_ = 0;
  Restart();
  SubmittedId();
  std::vector<std::string> answers;
  const auto cancel = [&] {
    loop_->Cancel("j1", [&](const absl::StatusOr<v1::JobRecord>& record) {
      answers.push_back(record.ok() ? v1::JobState_Name(record->state()) : record.status().ToString());
    });
  };
  cancel();
  for (int step = 0; step < 10; ++step) {
    if (!tasks_.empty()) {
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
      loop_->Tick();
    }
    cancel();
  }
  Run();
  EXPECT_THAT(answers, testing::AllOf(testing::SizeIs(11), testing::Each("CANCELLED")));
  EXPECT_TRUE(Listed().empty());
}

TEST_F(ControllerLoopTest, ForgetsRequestsOfArchivedJobsAWeekAfterTheirEnd) {
  keep_jobs_ = 0;
  Restart();
  SubmittedId(Request("r1"));
  ASSERT_OK(Cancel("j1"));
  Wait(absl::Hours(7 * 24) - absl::Minutes(1));
  EXPECT_EQ(Submit(Request("r1"))->record().id(), "j1");
  Restart();
  Wait(absl::Minutes(2));
  EXPECT_THAT(Submit(Request("r1")), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("upload it first")));
  blobs_.insert(kHash);
  EXPECT_EQ(SubmittedId(Request("r1")), "j2");
}

TEST_F(ControllerLoopTest, ArchivesByAgeAndReleasesTheFiles) {
  keep_ended_ = absl::Hours(24);
  Restart();
  const std::string checkpoint(64, '1');
  blobs_.insert(checkpoint);
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  Checkpoint(worker, key, 10, checkpoint);
  ASSERT_OK(Cancel("j1"));
  Report(worker, key, v1::ATTEMPT_CANCELLED);
  HangUp(worker);
  Wait(absl::Hours(23));
  EXPECT_THAT(Listed(), ElementsAre("j1"));
  EXPECT_THAT(blobs_, ElementsAre(checkpoint, kHash));
  Wait(absl::Hours(2));
  EXPECT_TRUE(Listed().empty());
  EXPECT_TRUE(blobs_.empty());
  EXPECT_EQ(Find("j1")->checkpoint().step(), 10);
}

TEST_F(ControllerLoopTest, AWatchOfAJobThatIsArchivedCanBeEnded) {
  keep_ended_ = absl::Hours(24);
  Restart();
  SubmittedId();
  ASSERT_OK_AND_ASSIGN(const int64_t watch, loop_->Watch("j1", 0, [](const auto&, const auto&) {}));
  ASSERT_OK(Cancel("j1"));
  Wait(absl::Hours(25));
  EXPECT_TRUE(Listed().empty());
  loop_->Unwatch(watch);
}

TEST_F(ControllerLoopTest, ListsNewestFirstByPages) {
  for (int i = 0; i < 5; ++i) SubmittedId();
  ASSERT_OK(Cancel("j2"));
  v1::ListJobsRequest request;
  request.set_limit(2);
  std::vector<std::string> ids;
  for (bool more = true; more;) {
    ASSERT_OK_AND_ASSIGN(const v1::ListJobsResponse page, loop_->List(request));
    for (const v1::JobRecord& record : page.records()) ids.push_back(record.id());
    more = page.more();
    request.set_before_id(ids.back());
  }
  EXPECT_THAT(ids, ElementsAre("j5", "j4", "j3", "j2", "j1"));
  v1::ListJobsRequest cancelled;
  cancelled.add_states(v1::CANCELLED);
  ASSERT_OK_AND_ASSIGN(const v1::ListJobsResponse only, loop_->List(cancelled));
  ASSERT_EQ(only.records_size(), 1);
  EXPECT_EQ(only.records(0).id(), "j2");
}

TEST_F(ControllerLoopTest, TakesAnotherJobsResultAsInput) {
  FakeWorker worker{.id = "w1"};
  const v1::AttemptKey key = RunOn(worker);
  v1::SubmitJobRequest next = Request();
  next.mutable_job()->mutable_architecture()->set_pretrained_adapter("job:j1/result");
  EXPECT_THAT(Submit(next), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("j1 is RUNNING")));
  Report(worker, key, v1::ATTEMPT_SUCCEEDED);
  ASSERT_OK(Submit(next));
  const v1::Assign assign = *worker.sink->assign();
  ASSERT_EQ(assign.inputs_size(), 2);
  EXPECT_EQ(assign.inputs(1).field(), "architecture.pretrained_adapter");
  EXPECT_EQ(assign.inputs(1).artifact().files(0).path(), "adapter.safetensors");
}

TEST_F(ControllerLoopTest, TakesTheNewestStreamOfAWorker) {
  FakeWorker worker{.id = "w1"};
  Dial(worker);
  const auto first = worker.sink;
  Dial(worker);
  ASSERT_TRUE(first->closed.has_value());
  EXPECT_EQ(loop_->Workers().workers_size(), 1);
  EXPECT_TRUE(loop_->Workers().workers(0).connected());
}

TEST_F(ControllerLoopTest, KeepsTheStreamThatWorksWhereAnOldAgentDials) {
  FakeWorker worker{.id = "w1", .incarnation = 5}, old{.id = "w1", .incarnation = 4};
  Dial(worker);
  Dial(old);
  ASSERT_TRUE(old.sink->closed.has_value());
  EXPECT_FALSE(worker.sink->closed.has_value());
  EXPECT_TRUE(loop_->Workers().workers(0).connected());
}

TEST_F(ControllerLoopTest, KeepsNothingOfAWorkerThatItRefused) {
  auto sink = std::make_shared<FakeStream>();
  v1::WorkerUp up;
  up.mutable_hello()->set_worker_id("w1");
  up.mutable_hello()->set_min_protocol(7);
  up.mutable_hello()->set_max_protocol(9);
  loop_->OnStreamMessage(loop_->OpenStream(sink), up);
  Run();
  ASSERT_TRUE(sink->closed.has_value());
  EXPECT_THAT(sink->received.back().refused(), HasSubstr("protocol 7 to 9"));
  EXPECT_EQ(loop_->Workers().workers_size(), 0);
}

TEST_F(ControllerLoopTest, RefusesAWorkerWithoutAName) {
  FakeWorker worker{.id = ""};
  Dial(worker);
  ASSERT_TRUE(worker.sink->closed.has_value());
  EXPECT_EQ(loop_->Workers().workers_size(), 0);
}

}  // namespace
}  // namespace studio::controller
