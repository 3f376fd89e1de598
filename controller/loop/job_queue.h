// The jobs as the scheduler sees them: which wait, and which devices are taken. Kept up to date by each decision, so
// that a plan costs what waits, not what it takes to read ten thousand records anew.
//
//   queue.Update(7, record);                        // after every change of job 7, and when it is loaded
//   ClusterSnapshot snapshot{.waiting = queue.Waiting(), …};
//
// Belongs to one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "controller/scheduler/scheduler.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::controller {

class JobQueue {
 public:
  // The job as it is decided now.
  void Update(int64_t number, const v1::JobRecord& record);

  bool empty() const { return waiting_.empty(); }
  // Oldest first.
  std::vector<WaitingJob> Waiting() const;
  // By worker: device id and the job that has it, oldest job first.
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> Busy() const;

 private:
  std::shared_ptr<const Needs> NeedsOf(const v1::JobRecord& record);

  struct Held {
    std::string job_id;
    std::vector<std::pair<std::string, std::string>> devices;  // worker, device
  };
  std::map<int64_t, WaitingJob> waiting_;
  std::map<int64_t, Held> held_;
  // Jobs that need the same share one: the scheduler looks at each once.
  std::map<std::string, std::weak_ptr<const Needs>> needs_;
};

}  // namespace studio::controller
