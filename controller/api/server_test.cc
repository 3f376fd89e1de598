// A whole controller on loopback ports, with a real client and a worker played by hand.
#include "controller/api/server.h"

#include <grpcpp/grpcpp.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "common/artifact/file_tree.h"
#include "common/artifact/transfer_client.h"
#include "common/metrics/http_get.h"
#include "common/status/grpc_status.h"
#include "common/status/testing.h"
#include "common/time/patience.h"
#include "common/version/version.h"
#include "controller/api/fake_agent.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"

namespace studio::controller {
namespace {

using testing::HasSubstr;

class ServerTest : public testing::Test {
 protected:
  ServerTest() : folder_(testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(folder_);
    StartServer();
  }

  ServerOptions Options() const {
    ServerOptions options;
    options.state_dir = folder_ + "/state";
    options.listen = options.transfer_listen = options.metrics_listen = "127.0.0.1:0";
    options.keep_jobs = keep_jobs_;
    options.slow_after = slow_after_;
    if (keep_nothing_) {
      options.keep_logs = options.keep_uploads = absl::ZeroDuration();
      options.housekeeping = absl::Milliseconds(10);
    }
    return options;
  }
  void StartServer() {
    auto server = Server::Start(Options());
    ASSERT_OK(server);
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::Controller::NewStub(channel_);
  }
  void Restart() {
    server_.reset();
    StartServer();
  }

  static v1::SubmitJobRequest Request() {
    v1::SubmitJobRequest request;
    request.mutable_job()->set_name("test");
    request.mutable_job()->mutable_dataset()->set_train_dataframe("file:/shared/rows.jsonl");
    request.mutable_job()->mutable_architecture()->set_llm_backbone("file:/shared/model");
    return request;
  }
  absl::StatusOr<v1::JobRecord> Submit(const v1::SubmitJobRequest& request = Request()) {
    grpc::ClientContext context;
    v1::SubmitJobResponse response;
    const grpc::Status status = stub_->SubmitJob(&context, request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response.record();
  }
  absl::StatusOr<v1::JobRecord> Get(const std::string& id) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_id(id);
    v1::JobRecord record;
    const grpc::Status status = stub_->GetJob(&context, request, &record);
    if (!status.ok()) return FromGrpc(status);
    return record;
  }
  absl::StatusOr<v1::JobRecord> Cancel(const std::string& id) {
    grpc::ClientContext context;
    v1::CancelJobRequest request;
    request.set_id(id);
    v1::JobRecord record;
    const grpc::Status status = stub_->CancelJob(&context, request, &record);
    if (!status.ok()) return FromGrpc(status);
    return record;
  }
  // The states that a watcher sees, to the end of the stream, and the points' steps.
  std::pair<std::vector<std::string>, std::vector<int64_t>> WatchToEnd(const std::string& id) {
    grpc::ClientContext context;
    v1::WatchJobRequest request;
    request.set_id(id);
    auto reader = stub_->WatchJob(&context, request);
    std::vector<std::string> states;
    std::vector<int64_t> steps;
    v1::WatchJobResponse response;
    while (reader->Read(&response)) {
      const std::string state = v1::JobState_Name(response.record().state());
      if (states.empty() || states.back() != state) states.push_back(state);
      for (const v1::Progress& point : response.points()) steps.push_back(point.step());
    }
    EXPECT_OK(FromGrpc(reader->Finish()));
    return {states, steps};
  }
  absl::StatusOr<std::string> Logs(const std::string& id, bool follow, int attempt = 0, int64_t offset = 0) {
    grpc::ClientContext context;
    v1::ReadLogsRequest request;
    request.set_id(id);
    request.set_follow(follow);
    request.set_attempt(attempt);
    request.set_offset(offset);
    auto reader = stub_->ReadLogs(&context, request);
    std::string text;
    v1::LogLines lines;
    while (reader->Read(&lines)) text += lines.data();
    const grpc::Status status = reader->Finish();
    if (!status.ok()) return FromGrpc(status);
    return text;
  }

  const std::string folder_;
  int64_t keep_jobs_ = 10'000;
  absl::Duration slow_after_ = absl::Seconds(60);
  bool keep_nothing_ = false;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Controller::Stub> stub_;
};

TEST_F(ServerTest, RunsAJobFromSubmitToSuccess) {
  FakeAgent agent(server_->address());
  agent.Greet({});
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord submitted, Submit());
  EXPECT_EQ(submitted.id(), "j1");
  EXPECT_EQ(submitted.owner(), "local");
  const v1::Assign assign = agent.AwaitAssign();
  EXPECT_EQ(assign.key().job_id(), "j1");
  agent.Report(assign.key(), v1::ATTEMPT_RUNNING);
  std::vector<std::string> states;
  std::vector<int64_t> steps;
  std::string log;
  std::thread watcher([&] { std::tie(states, steps) = WatchToEnd("j1"); });
  std::thread follower([&] { log = *Logs("j1", /*follow=*/true); });
  agent.Log(assign.key(), 0, "one\n");
  agent.Log(assign.key(), 4, "two\n");
  for (int step = 1; step <= 3; ++step) agent.Point(assign.key(), step);
  agent.Report(assign.key(), v1::ATTEMPT_SUCCEEDED);
  watcher.join();
  follower.join();
  EXPECT_EQ(states.back(), "SUCCEEDED");
  EXPECT_EQ(log, "one\ntwo\n");
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord record, Get("j1"));
  EXPECT_EQ(record.state(), v1::SUCCEEDED);
  EXPECT_EQ(record.progress().step(), 3);
}

TEST_F(ServerTest, CancelsARunningJob) {
  FakeAgent agent(server_->address());
  agent.Greet({});
  ASSERT_OK(Submit());
  const v1::Assign assign = agent.AwaitAssign();
  agent.Report(assign.key(), v1::ATTEMPT_RUNNING);
  ASSERT_OK_AND_ASSIGN(const v1::JobRecord cancelling, Cancel("j1"));
  EXPECT_EQ(cancelling.state(), v1::CANCELLING);
  EXPECT_EQ(agent.AwaitStop().stop().reason(), v1::CANCELLED_BY_USER);
  agent.Report(assign.key(), v1::ATTEMPT_CANCELLED);
  EXPECT_EQ(WatchToEnd("j1").first, (std::vector<std::string>{"CANCELLED"}));
}

TEST_F(ServerTest, GoesOnAfterARestartAsIfNothingHadBeen) {
  v1::AttemptKey key;
  {
    FakeAgent agent(server_->address());
    agent.Greet({});
    ASSERT_OK(Submit());
    key = agent.AwaitAssign().key();
    agent.Report(key, v1::ATTEMPT_RUNNING);
    agent.Checkpoint(key, 20);
    agent.Log(key, 0, "before\n");
    agent.Point(key, 21);
    agent.Report(key, v1::ATTEMPT_RUNNING);  // what came before it on the stream has been taken
    Restart();
  }
  ASSERT_OK_AND_ASSIGN(v1::JobRecord record, Get("j1"));
  EXPECT_EQ(record.state(), v1::RUNNING);
  EXPECT_EQ(record.checkpoint().step(), 20);
  EXPECT_EQ(record.progress().step(), 21);
  FakeAgent agent(server_->address());
  v1::RunningAttempt running;
  *running.mutable_key() = key;
  running.set_state(v1::ATTEMPT_RUNNING);
  agent.Greet({running});
  agent.Log(key, 0, "before\nafter\n");
  agent.Report(key, v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(*Logs("j1", /*follow=*/true), "before\nafter\n");
  ASSERT_OK_AND_ASSIGN(record, Get("j1"));
  EXPECT_EQ(record.state(), v1::SUCCEEDED);
  EXPECT_EQ(record.attempts_size(), 1);
}

TEST_F(ServerTest, TakesFilesBeforeTheJobThatNamesThem) {
  const std::string rows = folder_ + "/rows.jsonl";
  std::ofstream(rows) << "{\"instruction\": \"a\", \"output\": \"b\"}\n";
  ASSERT_OK_AND_ASSIGN(v1::Artifact artifact, HashTree(rows, {}));
  artifact.set_uri("studio:");
  v1::SubmitJobRequest request = Request();
  request.mutable_job()->mutable_dataset()->set_train_dataframe("rows.jsonl");
  v1::Input& input = *request.add_inputs();
  input.set_field("dataset.train_dataframe");
  *input.mutable_artifact() = artifact;
  EXPECT_THAT(Submit(request), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("upload it first")));
  TransferClient transfers(grpc::CreateChannel(server_->transfer_address(), grpc::InsecureChannelCredentials()), {});
  ASSERT_OK(transfers.Upload(rows, artifact, {}));
  ASSERT_OK(Submit(request));
}

TEST_F(ServerTest, FollowsLogsIntoTheNextAttempt) {
  FakeAgent agent(server_->address());
  agent.Greet({});
  ASSERT_OK(Submit());
  const v1::AttemptKey first = agent.AwaitAssign().key();
  agent.Log(first, 0, "first ");
  std::string log;
  std::thread follower([&] { log = *Logs("j1", /*follow=*/true); });
  v1::WorkerUp crash;
  crash.set_sequence(1);
  *crash.mutable_attempt()->mutable_key() = first;
  crash.mutable_attempt()->set_state(v1::ATTEMPT_FAILED);
  crash.mutable_attempt()->set_reason(v1::WORKER_DRAINED);
  agent.Send(crash);
  const v1::AttemptKey second = agent.AwaitAssign().key();
  agent.Log(second, 0, "second");
  v1::WorkerUp end = crash;
  end.set_sequence(2);
  *end.mutable_attempt()->mutable_key() = second;
  end.mutable_attempt()->set_state(v1::ATTEMPT_SUCCEEDED);
  agent.Send(end);
  follower.join();
  // The follower may have come before or after the second attempt began.
  EXPECT_TRUE(log == "first second" || log == "second") << log;
  EXPECT_EQ(*Logs("j1", /*follow=*/false, /*attempt=*/1), "first ");
  EXPECT_EQ(*Logs("j1", /*follow=*/true, /*attempt=*/1, /*offset=*/3), "st ");
  EXPECT_EQ(*Logs("j1", /*follow=*/false), "second");
}

TEST_F(ServerTest, SaysWhatThereIsNot) {
  EXPECT_THAT(Get("j7"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no job j7")));
  EXPECT_THAT(Get("x"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("ids look like j7")));
  EXPECT_THAT(Cancel("j7"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no job j7")));
  EXPECT_THAT(Logs("j7", false), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no job j7")));
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_id("j7");
  auto reader = stub_->WatchJob(&context, request);
  v1::WatchJobResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_THAT(FromGrpc(reader->Finish()), StatusIs(absl::StatusCode::kNotFound, HasSubstr("no job j7")));
}

TEST_F(ServerTest, ListsItsWorkers) {
  FakeAgent agent(server_->address());
  agent.Greet({});
  grpc::ClientContext context;
  v1::ListWorkersResponse response;
  ASSERT_OK(FromGrpc(stub_->ListWorkers(&context, {}, &response)));
  ASSERT_EQ(response.workers_size(), 1);
  EXPECT_EQ(response.workers(0).id(), "w1");
  EXPECT_TRUE(response.workers(0).connected());
}

TEST_F(ServerTest, SaysItsVersionHealthAndServices) {
  grpc::ClientContext version_context, health_context, reflection_context;
  v1::GetVersionResponse version;
  ASSERT_OK(FromGrpc(stub_->GetVersion(&version_context, {}, &version)));
  EXPECT_EQ(version.version(), kVersion);
  EXPECT_EQ(server_->transfer_address(), "127.0.0.1" + version.transfer_address());
  EXPECT_EQ(version.max_blob_bytes(), int64_t{1} << 30);
  auto health = grpc::health::v1::Health::NewStub(channel_);
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_OK(FromGrpc(health->Check(&health_context, {}, &response)));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
}

TEST_F(ServerTest, EndsInTimeWithStreamsOpen) {
  FakeAgent agent(server_->address());
  agent.Greet({});
  ASSERT_OK(Submit());
  agent.AwaitAssign();
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_id("j1");
  auto reader = stub_->WatchJob(&context, request);
  v1::WatchJobResponse response;
  ASSERT_TRUE(reader->Read(&response));
  grpc::ClientContext log_context;
  v1::ReadLogsRequest log_request;
  log_request.set_id("j1");
  log_request.set_follow(true);
  auto log_reader = stub_->ReadLogs(&log_context, log_request);
  log_reader->WaitForInitialMetadata();
  // Clients that listen, as real ones do: they let go of their connections at once.
  std::thread listening([&] { agent.AwaitEnd(); });
  grpc::Status watch_end, log_end;
  std::thread watching([&] {
    while (reader->Read(&response)) {
    }
    watch_end = reader->Finish();
  });
  std::thread following([&] {
    v1::LogLines lines;
    while (log_reader->Read(&lines)) {
    }
    log_end = log_reader->Finish();
  });
  server_->Stop();
  for (std::thread* thread : {&listening, &watching, &following}) thread->join();
  EXPECT_THAT(FromGrpc(watch_end), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("stopping")));
  EXPECT_EQ(log_end.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerTest, TellsPrometheusWhatHappened) {
  FakeAgent agent(server_->address());
  agent.Greet({});
  ASSERT_OK(Submit());
  const v1::AttemptKey key = agent.AwaitAssign().key();
  ASSERT_OK(Submit());
  v1::AttemptKey stale = key;
  stale.set_epoch(key.epoch() + 100);
  agent.Report(stale, v1::ATTEMPT_RUNNING);
  agent.Report(key, v1::ATTEMPT_FAILED);  // a crash: it goes on with another attempt
  const std::string page = HttpGet(server_->metrics_address(), "GET /metrics HTTP/1.1\r\n\r\n");
  for (const char* line :
       {"studio_jobs_submitted_total 2", "studio_retries_total{reason=\"CRASH\"} 1", "studio_stale_epochs_total 1",
        "studio_workers{contact=\"yes\"} 1", "studio_queue_seconds_count 2", "studio_fences_total 0"}) {
    EXPECT_THAT(page, HasSubstr(std::string("\n") + line + "\n"));
  }
  EXPECT_THAT(page, HasSubstr("studio_commit_seconds_bucket"));
}

// Drops it as soon as something more is there for it; it goes on from what it has seen.
TEST_F(ServerTest, DropsAReaderOfLogsThatDoesNotReadAndTellsTheNextTheRest) {
  server_.reset();
  slow_after_ = absl::ZeroDuration();
  StartServer();
  FakeAgent agent(server_->address());
  agent.Greet({});
  ASSERT_OK(Submit());
  const v1::AttemptKey key = agent.AwaitAssign().key();
  // More than gRPC keeps under way for a client.
  std::string all;
  for (int chunk = 0; chunk < 64; ++chunk) {
    const std::string text(256 << 10, static_cast<char>('a' + chunk % 26));
    agent.Log(key, static_cast<int64_t>(all.size()), text);
    all += text;
  }
  agent.Report(key, v1::ATTEMPT_RUNNING);  // what came before it has been taken
  grpc::ClientContext context;
  v1::ReadLogsRequest request;
  request.set_id("j1");
  request.set_follow(true);
  auto reader = stub_->ReadLogs(&context, request);
  reader->WaitForInitialMetadata();
  v1::LogLines lines;
  ASSERT_TRUE(reader->Read(&lines));
  std::string seen = lines.data();
  // It reads no more, and the log goes on, until it is dropped.
  for (int more = 0; more < 40; ++more) {
    agent.Log(key, static_cast<int64_t>(all.size()), "more\n");
    all += "more\n";
    agent.Report(key, v1::ATTEMPT_RUNNING);
  }
  while (reader->Read(&lines)) seen += lines.data();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_LT(seen.size(), all.size());
  EXPECT_EQ(seen, all.substr(0, seen.size()));
  EXPECT_EQ(seen + *Logs("j1", /*follow=*/false, /*attempt=*/1, static_cast<int64_t>(seen.size())), all);
}

TEST_F(ServerTest, HangsUpOnAWorkerThatDoesNotReadAndTakesItBack) {
  FakeAgent deaf(server_->address());
  deaf.Greet({});
  v1::WorkerUp beat;
  beat.mutable_heartbeat();  // each is answered
  int64_t beats = 0;
  while (deaf.TrySend(beat) && beats < 1'000'000) ++beats;
  EXPECT_LT(beats, 1'000'000);
  EXPECT_GT(beats, 10'000);
  FakeAgent again(server_->address());
  again.Greet({});
  ASSERT_OK(Submit());
  again.AwaitAssign();
}

TEST_F(ServerTest, KeepsAnArchivedJobForWhoAsksAndDropsItsFilesAndLogs) {
  server_.reset();
  keep_jobs_ = 0;
  keep_nothing_ = true;
  StartServer();
  const std::string rows = folder_ + "/rows.jsonl";
  std::ofstream(rows) << "{}\n";
  ASSERT_OK_AND_ASSIGN(v1::Artifact artifact, HashTree(rows, {}));
  TransferClient transfers(grpc::CreateChannel(server_->transfer_address(), grpc::InsecureChannelCredentials()), {});
  ASSERT_OK(transfers.Upload(rows, artifact, {}));
  FakeAgent agent(server_->address());
  agent.Greet({});
  ASSERT_OK(Submit());
  const v1::AttemptKey key = agent.AwaitAssign().key();
  agent.Log(key, 0, "words\n");
  agent.Report(key, v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(WatchToEnd("j1").first.back(), "SUCCEEDED");
  // By the housekeeper, whenever it comes round.
  const absl::Time limit = absl::Now() + Patience(absl::Minutes(1));
  const std::string blob = artifact.files(0).sha256();
  const auto there = [&] {
    return std::filesystem::exists(folder_ + "/state/logs/j1") ||
           std::filesystem::exists(folder_ + "/state/content/blobs/" + blob.substr(0, 2) + "/" + blob);
  };
  while (there() && absl::Now() < limit) std::this_thread::yield();
  EXPECT_FALSE(there());
  EXPECT_EQ(Get("j1")->state(), v1::SUCCEEDED);
  EXPECT_EQ(WatchToEnd("j1").first, (std::vector<std::string>{"SUCCEEDED"}));
  EXPECT_EQ(*Logs("j1", /*follow=*/true), "");
  EXPECT_THAT(HttpGet(server_->metrics_address(), "GET /metrics HTTP/1.1\r\n\r\n"),
              HasSubstr("\nstudio_collected_files_total 1\n"));
}

TEST_F(ServerTest, KeepsToItsFolderAndItsPort) {
  ServerOptions same_folder = Options();
  EXPECT_FALSE(Server::Start(same_folder).ok());
  ServerOptions same_port = Options();
  same_port.state_dir = folder_ + "/other";
  same_port.listen = server_->address();
  EXPECT_THAT(Server::Start(same_port).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(server_->address())));
}

TEST_F(ServerTest, ListensBeyondThisMachineOnlyWhenToldAloud) {
  ServerOptions options = Options();
  options.state_dir = folder_ + "/other";
  options.listen = "0.0.0.0:0";
  EXPECT_THAT(Server::Start(options).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("--insecure")));
  options.listen = "127.0.0.1:0";
  options.transfer_listen = "[::]:0";
  EXPECT_THAT(Server::Start(options).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("--transfer-listen")));
  options.transfer_listen = "7071";
  EXPECT_THAT(Server::Start(options).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("HOST:PORT")));
}

}  // namespace
}  // namespace studio::controller
