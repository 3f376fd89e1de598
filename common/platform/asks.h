// What a job asks of a platform by its settings, and whether a platform or a machine can give it, by the matrix.
//
//   for (const PlatformProblem& p : NeverWorks(job)) …        // at submit: refused, whatever machines there are
//   std::string why = WhyNot(AsksOf(job), inventory);          // in the scheduler: this machine cannot
//   for (const std::string& note : AutoFallbacks(job, inventory)) …   // on the worker: what `auto` became
//
// Jobs have their defaults. Pure functions; any thread.
#pragma once

#include <string>
#include <vector>

#include "common/platform/matrix.h"
#include "proto/studio/v1/state.pb.h"

namespace studio {

// One explicit choice.
struct Ask {
  // The job's field, dotted.
  std::string field;
  Axis axis;
  std::string choice;
};

struct Asks {
  std::vector<Ask> explicitly;
  // BACKEND_AUTO: whatever the machine prefers.
  v1::Backend backend = v1::BACKEND_AUTO;
};
Asks AsksOf(const v1::Job& job);

struct PlatformProblem {
  std::string field;
  // The value, why not, and the alternative.
  std::string message;
};
// What no machine of the backend and architecture that the job names can ever do.
std::vector<PlatformProblem> NeverWorks(const v1::Job& job);

// "FLASH_ATTENTION_2 does not work on CPU x86-64 (training.attention_implementation; SDPA does)". Empty: it can.
std::string WhyNot(const Asks& asks, const v1::Inventory& inventory);

// What the settings left to `auto` become where it is not the fastest choice of all, a sentence each.
std::vector<std::string> AutoFallbacks(const v1::Job& job, const v1::Inventory& inventory);

}  // namespace studio
