// Which devices of a worker a job could use, if nothing else ran there, and what lacks where they are too few. Pure.
#pragma once

#include <string>
#include <vector>

#include "controller/scheduler/scheduler.h"

namespace studio::controller {

// What a job asks for, in the order in which it is looked at: of several workers' obstacles, the one that comes last is
// of the worker that came nearest.
enum class Need { kItsOnlyWorker, kArch, kSharedRoot, kBackend, kKind, kCapability, kMemory, kCount, kMet };

struct Fit {
  // Those that the job could use, free or not.
  std::vector<const v1::Device*> devices;
  // The first that is not met.
  Need lacks = Need::kMet;
  // A sentence that holds for every worker that came no farther. Empty with kMet.
  std::string why_not;
};

// The devices point into `worker`.
Fit FitOn(const WorkerState& worker, const Needs& needs);

}  // namespace studio::controller
