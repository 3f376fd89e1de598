// Which waiting job starts where: a pure function of what is known.
//
//   for (const Action& action : Plan(snapshot)) { … store it with a new epoch, then send it … }
//
// First in, first out. All devices of a job are on one worker, one rank each, and no device serves two jobs. A job that
// waits for devices keeps later jobs off the workers that it could use; a job that no worker could hold delays nobody.
// Of jobs that need the same only the oldest that waits says which jobs have its devices: the others' reason stays the
// same from plan to plan, so a long queue is not written anew whenever a job ends.
// No clock (now is in the snapshot), no threads; the answer depends on the snapshot alone, never on a hash order.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"
#include "common/platform/asks.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::controller {

// What a job needs of a worker.
struct Needs {
  v1::Resources resources;
  // What its settings ask of a platform.
  Asks asks;
  // The file: URIs that it reads: a worker must declare the folder that they are in as shared.
  std::vector<std::string> file_uris;
  // The one worker that can read its checkpoint; empty: any.
  std::string only_worker;
};

struct WaitingJob {
  std::string id;
  // Jobs with equal needs may share them: each is looked at once.
  std::shared_ptr<const Needs> needs;
  // What the job says about its waiting now.
  std::string message;
};

struct WorkerState {
  std::string id;
  v1::Inventory inventory;
  std::vector<std::string> shared_roots;
  // In contact, and not on its way out.
  bool usable = false;
  // By device id, with the job that has it.
  std::vector<std::pair<std::string, std::string>> busy_devices;
};

struct ClusterSnapshot {
  absl::Time now;
  std::vector<WaitingJob> waiting;  // oldest first
  std::vector<WorkerState> workers;
};

// Start the job on these devices.
struct Assign {
  std::string job_id;
  std::vector<v1::RankAssignment> ranks;
};

// The job goes on waiting, and this is why. Only where that is news.
struct Explain {
  std::string job_id;
  std::string message;
};

using Action = std::variant<Assign, Explain>;

std::vector<Action> Plan(const ClusterSnapshot& snapshot);

}  // namespace studio::controller
