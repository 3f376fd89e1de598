// The real program, killed without warning and stopped gently.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/status/grpc_status.h"
#include "common/status/testing.h"
#include "controller/api/fake_agent.h"
#include "proto/studio/v1/controller.grpc.pb.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): macOS does not declare it

namespace studio::controller {
namespace {

class Process {
 public:
  explicit Process(const std::string& state_dir) {
    int out[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    const std::vector<std::string> words = {"controller/studio-controller",
                                            "--state-dir",
                                            state_dir,
                                            "--listen",
                                            "127.0.0.1:0",
                                            "--transfer-listen",
                                            "127.0.0.1:0",
                                            "--metrics-listen",
                                            "127.0.0.1:0"};
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    EXPECT_EQ(posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    std::string line;
    for (char c = 0; read(out[0], &c, 1) == 1 && c != '\n';) line += c;
    close(out[0]);
    const std::string before = "listening on ";
    EXPECT_EQ(line.substr(0, before.size()), before);
    address = line.substr(std::min(line.size(), before.size()));
    stub = v1::Controller::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  }
  ~Process() {
    if (pid_ > 0) End(SIGKILL);
  }
  // The exit code, or minus the signal.
  int End(int signal_number) {
    kill(pid_, signal_number);
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  absl::StatusOr<v1::SubmitJobResponse> Submit(const std::string& request_id) {
    grpc::ClientContext context;
    v1::SubmitJobRequest request;
    request.set_request_id(request_id);
    request.mutable_job()->set_name("test");
    request.mutable_job()->mutable_dataset()->set_train_dataframe("file:/shared/rows.jsonl");
    request.mutable_job()->mutable_architecture()->set_llm_backbone("file:/shared/model");
    v1::SubmitJobResponse response;
    const grpc::Status status = stub->SubmitJob(&context, request, &response);
    if (!status.ok()) return FromGrpc(status);
    return response;
  }
  v1::JobRecord Get(const std::string& id) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_id(id);
    v1::JobRecord record;
    EXPECT_OK(FromGrpc(stub->GetJob(&context, request, &record)));
    return record;
  }

  std::string address;
  std::unique_ptr<v1::Controller::Stub> stub;

 private:
  pid_t pid_ = 0;
};

std::string FreshFolder() {
  std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
  std::filesystem::remove_all(folder);
  return folder;
}

TEST(ControllerProcess, KeepsARunningJobWhenKilled) {
  const std::string folder = FreshFolder();
  v1::AttemptKey key;
  {
    Process controller(folder);
    FakeAgent agent(controller.address);
    agent.Greet({});
    ASSERT_OK(controller.Submit("r1"));
    key = agent.AwaitAssign().key();
    agent.Report(key, v1::ATTEMPT_RUNNING);
    agent.Checkpoint(key, 20);
    EXPECT_EQ(controller.End(SIGKILL), -SIGKILL);
  }
  Process controller(folder);
  EXPECT_EQ(controller.Get("j1").state(), v1::RUNNING);
  EXPECT_EQ(controller.Get("j1").checkpoint().step(), 20);
  FakeAgent agent(controller.address);
  v1::RunningAttempt running;
  *running.mutable_key() = key;
  running.set_state(v1::ATTEMPT_RUNNING);
  agent.Greet({running});
  agent.Report(key, v1::ATTEMPT_SUCCEEDED);
  EXPECT_EQ(controller.Get("j1").state(), v1::SUCCEEDED);
  EXPECT_EQ(controller.Get("j1").attempts_size(), 1);
}

// Clients submit without end; whatever was answered before the kill is there after it, under the same id, once.
TEST(ControllerProcess, LosesNoAnsweredSubmitWhenKilled) {
  const std::string folder = FreshFolder();
  std::map<std::string, std::string> answered;  // request → job
  for (int round = 0; round < 3; ++round) {
    Process controller(folder);
    std::atomic<int> answers = 0;
    std::vector<std::map<std::string, std::string>> by_client(4);
    std::vector<std::thread> clients;
    for (int client = 0; client < 4; ++client) {
      clients.emplace_back([&, client] {
        for (int i = 0;; ++i) {
          const std::string request = absl::StrCat("r", round, "-", client, "-", i);
          const auto response = controller.Submit(request);
          if (!response.ok()) return;
          by_client[client][request] = response->record().id();
          ++answers;
        }
      });
    }
    while (answers < 40 + 17 * round) std::this_thread::yield();
    controller.End(SIGKILL);
    for (std::thread& client : clients) client.join();
    for (const auto& requests : by_client) answered.insert(requests.begin(), requests.end());
  }
  Process controller(folder);
  std::set<std::string> ids;
  for (const auto& [request, id] : answered) {
    ASSERT_OK_AND_ASSIGN(const v1::SubmitJobResponse again, controller.Submit(request));
    EXPECT_TRUE(again.existed()) << request;
    EXPECT_EQ(again.record().id(), id) << request;
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), answered.size());
}

TEST(ControllerProcess, StopsGentlyOnEitherSignal) {
  const std::string folder = FreshFolder();
  for (const int signal_number : {SIGTERM, SIGINT}) {
    Process controller(folder);
    FakeAgent agent(controller.address);
    agent.Greet({});
    std::thread listening([&] { agent.AwaitEnd(); });
    EXPECT_EQ(controller.End(signal_number), 0);
    listening.join();
  }
}

// Runs the program to its end; what it printed goes to `printed`.
int RunProgram(const std::string& arguments, std::string* printed) {
  FILE* pipe = popen(("controller/studio-controller " + arguments + " 2>&1").c_str(), "r");  // NOLINT(cert-env33-c)
  EXPECT_NE(pipe, nullptr);
  char bytes[4096];
  printed->clear();
  for (size_t got = 0; (got = fread(bytes, 1, sizeof bytes, pipe)) > 0;) printed->append(bytes, got);
  const int status = pclose(pipe);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(ControllerProcess, IsBackedUpWhileItRunsAndRestored) {
  const std::string folder = FreshFolder(), backup = folder + "/backups/before";
  const std::string restored = folder + "-restored";
  std::filesystem::remove_all(restored);
  std::string printed;
  {
    Process controller(folder);
    ASSERT_OK(controller.Submit("r1"));
    EXPECT_EQ(RunProgram("backup before --controller " + controller.address, &printed), 0) << printed;
    EXPECT_THAT(printed, testing::HasSubstr(backup + "\n1 jobs"));
    EXPECT_EQ(RunProgram("backup before --controller " + controller.address, &printed), 1);
    EXPECT_THAT(printed, testing::HasSubstr("choose another name"));
    ASSERT_OK(controller.Submit("r2"));
    EXPECT_EQ(RunProgram("verify --state-dir " + folder, &printed), 1) << "its controller runs";
  }
  EXPECT_EQ(RunProgram("verify --state-dir " + folder, &printed), 0) << printed;
  EXPECT_THAT(printed, testing::HasSubstr("2 jobs"));
  EXPECT_EQ(RunProgram("restore " + backup + " --state-dir " + folder, &printed), 1);
  EXPECT_EQ(RunProgram("restore " + backup + " --state-dir " + restored, &printed), 0) << printed;
  EXPECT_EQ(RunProgram("verify " + restored, &printed), 0) << printed;
  EXPECT_EQ(RunProgram("restore", &printed), 2);

  Process controller(restored);
  ASSERT_OK_AND_ASSIGN(const v1::SubmitJobResponse again, controller.Submit("r1"));
  EXPECT_EQ(again.record().id(), "j1");
  // Acknowledged after the backup, under an id that nobody gets any more.
  ASSERT_OK_AND_ASSIGN(const v1::SubmitJobResponse other, controller.Submit("r2"));
  EXPECT_FALSE(other.existed());
  EXPECT_NE(other.record().id(), "j2");
}

}  // namespace
}  // namespace studio::controller
