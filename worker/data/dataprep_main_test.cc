// studio-dataprep as a process: the agent's side of its descriptor, exit codes, and its use by hand.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cstdlib>
#include <memory>

#include "common/env/posix_launcher.h"
#include "common/env/process.h"
#include "common/framing/framing.h"
#include "common/job/job_rules.h"
#include "common/status/testing.h"
#include "common/time/patience.h"
#include "proto/studio/v1/trainer.pb.h"
#include "worker/data/file_io.h"
#include "worker/data/testing_model.h"

namespace studio {
namespace {

using ::testing::HasSubstr;

class DataprepTest : public ::testing::Test {
 protected:
  DataprepTest() {
    WriteTestingModel(dir_ + "/model");
    std::string rows;
    for (int i = 0; i < 30; ++i) rows += "{\"instruction\":\"q\",\"output\":\"a\"}\n";
    EXPECT_OK(dataprep::WriteFile(dir_ + "/train.jsonl", rows));
    v1::Job& job = *task_.mutable_job();
    job.set_name("test");
    job.mutable_dataset()->set_train_dataframe(dir_ + "/train.jsonl");
    job.mutable_architecture()->set_llm_backbone(dir_ + "/model");
    job = WithDefaults(job);
    task_.set_data_dir(dir_ + "/data");
  }

  std::unique_ptr<Process> Start() {
    EXPECT_OK(dataprep::WriteFile(dir_ + "/task.pb.txt", task_.DebugString()));
    LaunchSpec spec{.argv = {Binary(), "--task", dir_ + "/task.pb.txt"}, .channel = true};
    spec.environment = EnvironmentWith({"STUDIO_AGENT_FD=" + std::to_string(kChannelFd)});
    auto process = PosixLauncher().Launch(spec);
    EXPECT_OK(process);
    return *std::move(process);
  }
  static int WaitForExitCode(Process& process) {
    pollfd ended{process.ended(), POLLIN, 0};
    EXPECT_EQ(poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(Patience(absl::Minutes(1))))), 1)
        << "still running";
    const auto end = process.Reap();
    return end.has_value() && end->signal == 0 ? end->exit_code : -1;
  }
  // Runs it as the agent does; all that it sent.
  std::vector<v1::TrainerUp> RunTask(int* exit_code) {
    std::unique_ptr<Process> process = Start();
    fcntl(process->channel(), F_SETFL, 0);  // blocking, for the reader
    std::vector<v1::TrainerUp> events;
    FrameReader reader(process->channel());
    for (v1::TrainerUp event; reader.Read(event).ok();) events.push_back(event);
    *exit_code = WaitForExitCode(*process);
    return events;
  }
  static std::string Binary() { return "worker/data/studio-dataprep"; }
  // By hand: the exit code; `output` gets both streams.
  int RunByHand(const std::string& arguments, std::string* output) {
    const std::string log = dir_ + "/by_hand";
    const int status = std::system((Binary() + " " + arguments + " > " + log + " 2>&1").c_str());
    *output = *dataprep::ReadFile(log, 1 << 20);
    return WEXITSTATUS(status);
  }

  const std::string dir_ = NewFolder("run");
  v1::TrainerTask task_;
};

TEST_F(DataprepTest, TellsTheAgentWhatItDid) {
  task_.mutable_job()->mutable_dataset()->set_chat_template("{% for m in messages %}{{ m.content }}{% endfor %}");
  int exit_code;
  const std::vector<v1::TrainerUp> events = RunTask(&exit_code);
  EXPECT_EQ(exit_code, 0);
  ASSERT_GE(events.size(), 5);
  for (size_t i = 0; i < events.size(); ++i) EXPECT_EQ(events[i].sequence(), i + 1);
  EXPECT_EQ(events[0].state(), v1::ATTEMPT_PREPARING);
  EXPECT_EQ(events[1].progress().total_rows(), 30);
  EXPECT_THAT(events[events.size() - 3].note(), HasSubstr("does not learn to stop"));
  EXPECT_EQ(events[events.size() - 2].data().rows(), 30);
  EXPECT_TRUE(events.back().has_finished());
}

TEST_F(DataprepTest, SaysThatTheInputIsBad) {
  task_.mutable_job()->mutable_tokenizer()->set_max_length(100000);
  int exit_code;
  const std::vector<v1::TrainerUp> events = RunTask(&exit_code);
  EXPECT_EQ(exit_code, 65);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().failure().reason(), v1::BAD_INPUT);
  EXPECT_THAT(events.back().failure().message(), HasSubstr("tokenizer.max_length is 100000"));
}

TEST_F(DataprepTest, EndsWhenTheAgentGoes) {
  // A pipe that nobody writes to: the preparation waits on it for ever.
  ASSERT_EQ(mkfifo((dir_ + "/pipe.jsonl").c_str(), 0600), 0);
  task_.mutable_job()->mutable_dataset()->set_train_dataframe(dir_ + "/pipe.jsonl");
  std::unique_ptr<Process> process = Start();
  fcntl(process->channel(), F_SETFL, 0);
  v1::TrainerUp first;
  ASSERT_OK(FrameReader(process->channel()).Read(first));
  EXPECT_EQ(first.state(), v1::ATTEMPT_PREPARING);
  ASSERT_EQ(shutdown(process->channel(), SHUT_RDWR), 0);
  EXPECT_NE(WaitForExitCode(*process), -1);
}

TEST_F(DataprepTest, WorksByHandWithPathsRelativeToTheJob) {
  ASSERT_OK(dataprep::WriteFile(dir_ + "/job.pb.txt",
                                "name: \"t\" dataset { train_dataframe: \"train.jsonl\" } "
                                "architecture { llm_backbone: \"model\" }"));
  std::string output;
  EXPECT_EQ(RunByHand("--job " + dir_ + "/job.pb.txt --data-dir " + dir_ + "/data", &output), 0) << output;
  EXPECT_THAT(output, HasSubstr("train_examples: 28"));
}

TEST_F(DataprepTest, NamesTheLineOfABadJob) {
  ASSERT_OK(dataprep::WriteFile(dir_ + "/job.pb.txt", "name: \"t\"\nlerning_rate: 1\n"));
  std::string output;
  EXPECT_EQ(RunByHand("--job " + dir_ + "/job.pb.txt --data-dir x", &output), 65);
  EXPECT_THAT(output, HasSubstr("job.pb.txt:2"));
  EXPECT_EQ(RunByHand("--job " + dir_ + "/absent.pb.txt --data-dir x", &output), 65);
}

TEST_F(DataprepTest, AnswersWrongUsageWithTwo) {
  std::string output;
  EXPECT_EQ(RunByHand("", &output), 2);
  EXPECT_EQ(RunByHand("--job x", &output), 2);
  EXPECT_EQ(RunByHand("--task x --job y --data-dir z", &output), 2);
  EXPECT_EQ(RunByHand("--help", &output), 0);
}

}  // namespace
}  // namespace studio
