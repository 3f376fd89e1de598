// studio-sim: plays seeds of the deterministic simulation and tells the story of the first that breaks an invariant.
//
//   studio-sim --seed 7            one seed, with its history's hash
//   studio-sim --seeds 1..20000 --jobs 2
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "tests/sim/simulation.h"

namespace studio::sim {
namespace {

void TellStory(uint64_t seed, const std::string& invariant, bool whole) {
  const Scenario scenario = whole ? NewScenario(seed) : Shrink(NewScenario(seed), invariant);
  std::cout << "seed " << seed << " in " << scenario.jobs.size() << " jobs and " << scenario.faults.size()
            << " faults:\n";
  for (const JobScript& job : scenario.jobs) std::cout << "  " << Describe(job) << "\n";
  const Outcome outcome = Play(scenario, /*keep_lines=*/true);
  for (const std::string& line : outcome.lines) std::cout << line << "\n";
}

// How many failed.
int RunSeeds(uint64_t first, uint64_t last, uint64_t stride, int stories, bool only_first) {
  int failed = 0;
  for (uint64_t seed = first; seed <= last; seed += stride) {
    const Outcome outcome = Play(NewScenario(seed), /*keep_lines=*/false);
    if (outcome.violations.empty()) continue;
    const auto& [invariant, what] = outcome.violations.front();
    std::cout << "seed " << seed << " violates " << invariant << ": " << what << std::endl;
    if (failed++ < stories) TellStory(seed, invariant, /*whole=*/false);
    if (only_first) break;
  }
  return failed;
}

}  // namespace
}  // namespace studio::sim

int main(int argc, char** argv) {
  CLI::App app("Plays seeds of the deterministic simulation of a controller and its workers.", "studio-sim");
  uint64_t seed = 0;
  std::string seeds;
  int jobs = 1;
  int stories = 1;
  bool story = false;
  bool only_first = false;
  auto* one = app.add_option("--seed", seed, "one seed; prints its hash");
  app.add_option("--seeds", seeds, "a range, A..B")->excludes(one);
  app.add_option("--jobs", jobs, "processes at once")->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--stories", stories, "how many failing seeds are shrunk and told")->capture_default_str();
  app.add_flag("--story", story, "with --seed: tell it whole, whatever happens");
  app.add_flag("--first", only_first, "with --seeds: end at the first that fails");
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::off);

  if (seeds.empty()) {
    const studio::sim::Outcome outcome = studio::sim::Play(studio::sim::NewScenario(seed), story);
    for (const std::string& line : outcome.lines) std::cout << line << "\n";
    std::cout << absl::StrFormat("seed %d: %d jobs, %d attempts, %d events, hash %016x, %d violations\n", seed,
                                 outcome.jobs, outcome.attempts, outcome.events, outcome.hash,
                                 outcome.violations.size());
    if (outcome.violations.empty()) return 0;
    if (!story) studio::sim::TellStory(seed, outcome.violations.front().first, /*whole=*/false);
    return 1;
  }
  const std::vector<std::string> ends = absl::StrSplit(seeds, "..");
  uint64_t first = 0;
  uint64_t last = 0;
  if (ends.size() != 2 || !absl::SimpleAtoi(ends[0], &first) || !absl::SimpleAtoi(ends[1], &last) || first > last) {
    std::cerr << "--seeds \"" << seeds << "\": write a range as 1..500\n";
    return 2;
  }
  const auto begin = std::chrono::steady_clock::now();
  std::vector<pid_t> children;
  for (int i = 1; i < jobs; ++i) {
    const pid_t child = fork();
    if (child == 0) return studio::sim::RunSeeds(first + i, last, jobs, stories, only_first) > 0;
    children.push_back(child);
  }
  bool failed = studio::sim::RunSeeds(first, last, jobs, stories, only_first) > 0;
  for (const pid_t child : children) {
    int status = 0;
    failed |= waitpid(child, &status, 0) != child || status != 0;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const auto count = static_cast<double>(last - first + 1);
  std::cout << absl::StrFormat("%.0f seeds in %.1f s, %.1f a second on %d processes: %s\n", count, seconds,
                               count / seconds, jobs, failed ? "VIOLATED" : "0 violations");
  return failed;
}
