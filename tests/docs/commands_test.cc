// Every command of the platform pages works, or is known to need what not every machine has: tests/docs/commands.txt.
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/env/posix_launcher.h"
#include "common/status/testing.h"
#include "tests/integration/cluster.h"

namespace studio {
namespace {

constexpr const char* kPages[] = {"README.md", "docs/platforms.md", "docs/troubleshooting.md",
                                  "docs/arm64_dependencies.md"};

std::string Read(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path << " cannot be read";
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// "studioctl get j1 | list" is two commands.
void AddCommands(const std::string& line, std::set<std::string>& commands) {
  if (!absl::StartsWith(line, "studioctl ")) {
    commands.insert(line);
    return;
  }
  for (absl::string_view part : absl::StrSplit(line.substr(10), " | "))
    commands.insert(absl::StrCat("studioctl ", part));
}

// Lines of indented blocks and words in backquotes that begin as a command with something after it.
std::set<std::string> CommandsOf(const std::string& text) {
  static const std::regex kCommand(
      "^(make|bazel|pip|ldd|studioctl|studio-[a-z]+|(bazel-bin|tools)/\\S+)( .*)|^tools/\\S+\\.sh$");
  std::set<std::string> commands;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::ConsumePrefix(&line, "    ")) continue;
    std::string command(line.substr(0, line.find(" #")));
    command.erase(command.find_last_not_of(' ') + 1);
    if (std::regex_match(command, kCommand)) AddCommands(command, commands);
  }
  static const std::regex kQuoted("`([^`]+)`");
  for (std::sregex_iterator it(text.begin(), text.end(), kQuoted), end; it != end; ++it) {
    const std::string command = std::regex_replace((*it)[1].str(), std::regex("\\s+"), " ");
    if (std::regex_match(command, kCommand)) AddCommands(command, commands);
  }
  return commands;
}

struct Listed {
  std::string command, how;
};
std::vector<Listed> ReadList() {
  std::vector<Listed> all;
  const std::string text = Read("tests/docs/commands.txt");
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty() || line[0] == '#') continue;
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(" => ", 1));
    EXPECT_EQ(parts.size(), 2u) << line;
    if (parts.size() == 2) all.push_back({parts[0], parts[1]});
  }
  return all;
}

TEST(Commands, AreThoseOfThePages) {
  std::set<std::string> listed;
  for (const Listed& one : ReadList()) listed.insert(one.command);
  std::set<std::string> found;
  for (const char* page : kPages) {
    for (const std::string& command : CommandsOf(Read(page))) {
      EXPECT_TRUE(listed.count(command)) << page << ": `" << command << "` is not in tests/docs/commands.txt";
      found.insert(command);
    }
  }
  for (const std::string& command : listed) {
    EXPECT_TRUE(found.count(command)) << "tests/docs/commands.txt: no page has `" << command << "`";
  }
}

TEST(Commands, WhatOthersRunStandsThere) {
  for (const Listed& one : ReadList()) {
    absl::string_view how = one.how;
    if (!absl::ConsumePrefix(&how, "by ")) {
      EXPECT_TRUE(absl::StartsWith(how, "run ") || absl::StartsWith(how, "needs ")) << one.command << ": " << how;
      continue;
    }
    const std::vector<std::string> parts = absl::StrSplit(how, absl::MaxSplits(": ", 1));
    ASSERT_EQ(parts.size(), 2u) << one.command;
    EXPECT_TRUE(absl::StrContains(Read(parts[0]), parts[1]))
        << one.command << ": " << parts[0] << " has no " << parts[1];
  }
}

TEST(Commands, RunAndEndWell) {
  const std::map<std::string, std::string> programs = {{"studio-trainer", "worker/trainer/studio-trainer"},
                                                       {"studio-worker", "worker/agent/studio-worker"}};
  std::string folder = "/tmp/studio-commands-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  {
    Cluster cluster(folder, {});
    ASSERT_OK(cluster.StartController());
    ASSERT_OK(cluster.StartWorker());
    ASSERT_OK_AND_ASSIGN(const std::string job, cluster.WriteJob({{"noop.steps", "5"}}));
    PosixLauncher launcher;
    for (const Listed& one : ReadList()) {
      absl::string_view how = one.how;
      if (!absl::ConsumePrefix(&how, "run ")) continue;
      std::vector<std::string> words =
          absl::StrSplit(absl::StrReplaceAll(how, {{"{job}", job}, {"{home}", folder + "/home"}}), ' ');
      if (words[0] == "studioctl") {
        words.erase(words.begin());
        ASSERT_OK_AND_ASSIGN(const Cluster::Ctl ctl, cluster.RunCtl(words));
        EXPECT_EQ(ctl.exit_code, 0) << one.command << ": " << ctl.output;
      } else {
        ASSERT_TRUE(programs.count(words[0])) << one.command;
        words[0] = programs.at(words[0]);
        EXPECT_OK(RunForOutput(launcher, {.argv = words, .environment = EnvironmentWith({})})) << one.command;
      }
    }
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace studio
