// One run: builds the machines of a scenario, lets the faults happen, then waits for all to settle.
//
//   Outcome outcome = Play(NewScenario(seed), /*keep_lines=*/false);
//   if (!outcome.violations.empty()) { … }
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/sim/scenario.h"

namespace studio::sim {

struct Outcome {
  // Invariant, what broke it. The first is what shrinking looks for.
  std::vector<std::pair<std::string, std::string>> violations;
  uint64_t hash = 0;
  int64_t events = 0;
  int64_t jobs = 0;
  int64_t attempts = 0;
  std::vector<std::string> lines;
};

Outcome Play(const Scenario& scenario, bool keep_lines);

// Fewest faults and jobs with which the first violated invariant is still violated, by leaving out halves, then single
// ones (delta debugging, Zeller 2002).
Scenario Shrink(const Scenario& scenario, const std::string& invariant);

}  // namespace studio::sim
