// studioctl against the controller's own program: what the fake promises, the real one keeps.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/artifact/test_folder.h"
#include "common/status/testing.h"
#include "studioctl/commands.h"

namespace studio::ctl {
namespace {

using testing::HasSubstr;

class RealControllerTest : public testing::Test {
 protected:
  void SetUp() override { Start("127.0.0.1:0"); }
  void TearDown() override { Kill(); }

  // Returns once the program says where it listens.
  void Start(const std::string& listen) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    std::vector<std::string> words = {"controller/studio-controller",
                                      "--state-dir",
                                      folder_.Path("state"),
                                      "--listen",
                                      listen,
                                      "--transfer-listen",
                                      "127.0.0.1:0",
                                      "--metrics-listen",
                                      "127.0.0.1:0"};
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ASSERT_EQ(posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    FILE* out = fdopen(ends[0], "r");
    char line[200] = "";
    address_.clear();
    while (address_.empty() && fgets(line, sizeof(line), out) != nullptr) {
      const std::string text = line;
      const std::string before = "listening on ";
      if (const size_t at = text.find(before); at != std::string::npos) {
        address_ = text.substr(at + before.size(), text.find_last_not_of('\n') + 1 - at - before.size());
      }
    }
    fclose(out);
    ASSERT_NE(address_, "");
  }
  void Kill() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  std::pair<int, std::string> Run(std::vector<std::string> arguments) {
    std::istringstream in;
    std::ostringstream out, err;
    Interrupt interrupt;
    Console console{in, out, err, interrupt};
    console.environment = [this](const std::string& name) {
      return name == "STUDIO_CONTROLLER" ? address_ : std::string();
    };
    const int code = RunStudioctl(std::move(arguments), console);
    return {code, out.str() + err.str()};
  }
  std::string JobFile() {
    folder_.Write("rows.jsonl", "{\"instruction\": \"a\", \"output\": \"b\"}\n");
    folder_.Write("model/config.json", "{}");
    return folder_.Write("job.pb.txt",
                         "name: \"faq\" dataset { train_dataframe: \"rows.jsonl\" } architecture { llm_backbone: "
                         "\"model\" }");
  }

  TestFolder folder_;
  pid_t pid_ = 0;
  std::string address_;
};

TEST_F(RealControllerTest, AJobIsSubmittedOnceShownCancelledAndRetried) {
  const std::string job = JobFile();
  EXPECT_THAT(Run({"submit", "--request-id", "r1", job}), testing::Pair(0, "j1 (faq) submitted\n"));
  EXPECT_THAT(Run({"submit", "--request-id", "r1", job}),
              testing::Pair(0, "j1 (faq) was submitted before with this request id\n"));
  EXPECT_THAT(Run({"submit", "-o", "name", job}), testing::Pair(0, "j2\n"));
  EXPECT_THAT(Run({"list", "-o", "name"}), testing::Pair(0, "j2\nj1\n"));
  EXPECT_THAT(Run({"get", "j1"}), testing::Pair(0, HasSubstr("PENDING")));
  EXPECT_THAT(Run({"download", "j1"}).first, 101);
  EXPECT_THAT(Run({"cancel", "j1"}), testing::Pair(0, "j1 CANCELLED\n"));
  EXPECT_THAT(Run({"watch", "j1"}).first, 103);
  EXPECT_THAT(Run({"retry", "j1"}), testing::Pair(0, HasSubstr("j3 (faq) retries j1")));
  EXPECT_THAT(Run({"logs", "j1"}).first, 0);
  EXPECT_THAT(Run({"workers", "-o", "json"}), testing::Pair(0, "[]\n"));
  EXPECT_THAT(Run({"version"}), testing::Pair(0, HasSubstr("controller  0.1.0 at " + address_)));
  for (const char* command : {"get", "watch", "logs", "cancel", "retry", "download"}) {
    EXPECT_EQ(Run({command, "j9"}).first, 102) << command;
  }
}

TEST_F(RealControllerTest, JobsOutliveAKilledController) {
  const std::string job = JobFile();
  ASSERT_EQ(Run({"submit", "--request-id", "r1", job}).first, 0);
  Kill();
  EXPECT_EQ(Run({"list"}).first, 104);
  Start(address_);
  EXPECT_THAT(Run({"list", "-o", "name"}), testing::Pair(0, "j1\n"));
  EXPECT_THAT(Run({"submit", "--request-id", "r1", job}), testing::Pair(0, HasSubstr("was submitted before")));
}

}  // namespace
}  // namespace studio::ctl
