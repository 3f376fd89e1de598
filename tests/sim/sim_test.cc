// The simulation as CI plays it: 500 seeds, those that once failed, and that a seed is a run and not a mood.
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "common/env/posix_launcher.h"
#include "common/status/testing.h"
#include "tests/sim/simulation.h"

namespace studio::sim {
namespace {

class SimTest : public testing::Test {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::off); }

  static void ExpectHolds(uint64_t seed) {
    const Outcome outcome = Play(NewScenario(seed), /*keep_lines=*/false);
    for (const auto& [invariant, what] : outcome.violations) {
      ADD_FAILURE() << "seed " << seed << " violates " << invariant << ": " << what
                    << "; its story: bazel run //tests/sim:studio-sim -- --seed " << seed;
    }
  }
};

TEST_F(SimTest, FiveHundredSeedsHold) {
  for (uint64_t seed = 1; seed <= 500; ++seed) ExpectHolds(seed);
}

TEST_F(SimTest, SeedsThatOnceFailedHold) {
  std::ifstream file("tests/sim/seeds.txt");
  int played = 0;
  for (std::string line; std::getline(file, line);) {
    uint64_t seed = 0;
    if (line.empty() || line[0] == '#') continue;
    const std::vector<std::string> fields = absl::StrSplit(line, '\t');
    ASSERT_TRUE(fields.size() == 2 && absl::SimpleAtoi(fields[0], &seed)) << line;
    ExpectHolds(seed);
    ++played;
  }
  EXPECT_GT(played, 0);
}

TEST_F(SimTest, ASeedHasItsFiveWorkersTwentyJobsAndFiftyFaults) {
  const Scenario scenario = NewScenario(3);
  EXPECT_GE(scenario.workers, 5);
  EXPECT_GE(scenario.jobs.size(), 20u);
  EXPECT_GE(scenario.faults.size(), 50u);
}

TEST_F(SimTest, ASeedReplaysExactly) {
  const Outcome once = Play(NewScenario(7), /*keep_lines=*/true);
  const Outcome again = Play(NewScenario(7), /*keep_lines=*/false);
  EXPECT_EQ(once.hash, again.hash);
  EXPECT_EQ(once.events, again.events);
  EXPECT_NE(once.hash, Play(NewScenario(8), /*keep_lines=*/false).hash);
}

TEST_F(SimTest, ASeedReplaysExactlyInAnotherProcess) {
  PosixLauncher launcher;
  ASSERT_OK_AND_ASSIGN(const std::string told,
                       RunForOutput(launcher, {.argv = {"tests/sim/studio-sim", "--seed", "7"}, .environment = {}}));
  const std::string hash = absl::StrFormat("hash %016x", Play(NewScenario(7), /*keep_lines=*/false).hash);
  EXPECT_NE(told.find(hash), std::string::npos) << told << " does not hold " << hash;
}

// Longer than lost_after, every fence and the back-off together.
TEST_F(SimTest, TenMinutesWithoutAControllerCostNoTrainingAnything) {
  Scenario scenario = NewScenario(11);
  scenario.jobs.resize(5);
  for (JobScript& job : scenario.jobs) {
    const int number = job.number;
    job = JobScript();
    job.number = number;
    job.submit_at = absl::Seconds(number);
    job.steps = 90;
    job.save_steps = 10;
    job.step_time = absl::Seconds(10);
    job.fence_seconds = 60;
  }
  Fault away;
  away.at = absl::Seconds(100);
  away.kind = FaultKind::kControllerAway;
  away.length = absl::Minutes(10);
  scenario.faults = {away};
  scenario.faults_end = absl::Minutes(20);
  const Outcome outcome = Play(scenario, /*keep_lines=*/true);
  EXPECT_TRUE(outcome.violations.empty()) << outcome.violations.front().second;
  EXPECT_EQ(outcome.jobs, 5);
  EXPECT_EQ(outcome.attempts, 5) << "an attempt was given up";
  const auto count = [&](const std::string& part) {
    return std::count_if(outcome.lines.begin(), outcome.lines.end(), [&](const std::string& line) {
      return line.find("rank 0 of") != std::string::npos && line.find(part) != std::string::npos;
    });
  };
  EXPECT_EQ(count(" begins on "), 10) << "once for its data and once to train, each";
  EXPECT_EQ(std::count_if(outcome.lines.begin(), outcome.lines.end(),
                          [](const std::string& line) { return line.find("FENCED") != std::string::npos; }),
            0);
}

TEST_F(SimTest, ShrinkingKeepsWhatFailsAndDropsTheRest) {
  // It must settle within five seconds of its start, which no job does.
  Scenario scenario = NewScenario(5);
  scenario.faults_end = absl::Seconds(5 - 60 - 20);
  for (JobScript& job : scenario.jobs) {
    job.submit_at = absl::ZeroDuration();
    job.fence_seconds = 20;
    job.step_time = absl::Seconds(2);
    job.cancel_at = absl::InfiniteDuration();
    job.crashes = 0;
    job.oom_above_micro = 0;
  }
  const Outcome outcome = Play(scenario, /*keep_lines=*/false);
  ASSERT_FALSE(outcome.violations.empty());
  const Scenario small = Shrink(scenario, outcome.violations.front().first);
  EXPECT_EQ(small.jobs.size(), 1u);
  EXPECT_EQ(small.faults.size(), 0u);
  EXPECT_EQ(Play(small, /*keep_lines=*/false).violations.front().first, outcome.violations.front().first);
}

}  // namespace
}  // namespace studio::sim
