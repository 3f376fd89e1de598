#include "controller/scheduler/scheduler.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "controller/scheduler/fit.h"

namespace studio::controller {
namespace {

// Of several workers' obstacles, the one of the worker that came nearest: which met most needs, then has most devices.
struct Nearest {
  Need lacks = Need::kItsOnlyWorker;
  size_t devices = 0;
  std::string why;
  void Offer(const Fit& fit) {
    if (!why.empty() && std::pair(fit.lacks, fit.devices.size()) <= std::pair(lacks, devices)) return;
    lacks = fit.lacks;
    devices = fit.devices.size();
    why = fit.why_not;
  }
};

// " (there are CPU, CUDA)": what a job could ask for instead of a backend that nobody has.
std::string Backends(const std::vector<WorkerState>& workers) {
  std::set<std::string> names;
  for (const WorkerState& worker : workers) {
    if (!worker.usable) continue;
    for (const v1::Device& device : worker.inventory.devices()) names.insert(v1::Backend_Name(device.backend()));
  }
  return names.empty() ? "" : absl::StrCat(" (there are ", absl::StrJoin(names, ", "), ")");
}

class Planner {
 public:
  explicit Planner(const ClusterSnapshot& snapshot) : snapshot_(snapshot) {
    for (const WorkerState& worker : snapshot.workers) {
      any_usable_ |= worker.usable;
      for (const auto& [device, job] : worker.busy_devices) busy_[worker.id][device] = job;
    }
  }

  std::vector<Action> Run() {
    for (const WaitingJob& job : snapshot_.waiting) {
      const std::string why = Place(job);
      if (!why.empty() && why != job.message) actions_.emplace_back(Explain{job.id, why});
    }
    return std::move(actions_);
  }

 private:
  // Why it has to wait; empty where it was placed.
  std::string Place(const WaitingJob& job) {
    if (!any_usable_) return "no worker is connected; start one with studio-worker";
    const int wanted = std::max(1, job.resources.devices());
    Nearest nearest;
    std::vector<const WorkerState*> candidates;
    std::set<std::string> holders;
    for (const WorkerState& worker : snapshot_.workers) {
      if (!worker.usable) continue;
      const Fit fit = FitOn(worker, job);
      if (fit.lacks != Need::kMet) {
        nearest.Offer(fit);
        continue;
      }
      candidates.push_back(&worker);
      std::vector<const v1::Device*> free;
      for (const v1::Device* device : fit.devices) {
        const auto& taken = busy_[worker.id];
        const auto holder = taken.find(device->id());
        if (holder == taken.end()) {
          free.push_back(device);
        } else {
          holders.insert(holder->second);
        }
      }
      const auto kept = kept_for_.find(worker.id);
      if (kept != kept_for_.end()) {
        holders.insert(kept->second);
      } else if (static_cast<int>(free.size()) >= wanted) {
        Start(job, worker, {free.begin(), free.begin() + wanted});
        return "";
      }
    }
    if (candidates.empty()) {
      return absl::StrCat(nearest.why, nearest.lacks == Need::kBackend ? Backends(snapshot_.workers) : "");
    }
    for (const WorkerState* worker : candidates) kept_for_.emplace(worker->id, job.id);
    return absl::StrCat("waits for ", wanted, wanted == 1 ? " device" : " devices", ": busy with or kept for ",
                        absl::StrJoin(holders, ", "));
  }

  void Start(const WaitingJob& job, const WorkerState& worker, const std::vector<const v1::Device*>& devices) {
    Assign assign{job.id, {}};
    for (const v1::Device* device : devices) {
      v1::RankAssignment& rank = assign.ranks.emplace_back();
      rank.set_rank(assign.ranks.size() - 1);
      rank.set_local_rank(assign.ranks.size() - 1);
      rank.set_worker_id(worker.id);
      rank.add_device_ids(device->id());
      busy_[worker.id][device->id()] = job.id;
    }
    actions_.emplace_back(std::move(assign));
  }

  const ClusterSnapshot& snapshot_;
  bool any_usable_ = false;
  std::map<std::string, std::map<std::string, std::string>> busy_;  // worker → device → job
  std::map<std::string, std::string> kept_for_;                     // worker → the older job that waits for it
  std::vector<Action> actions_;
};

}  // namespace

std::vector<Action> Plan(const ClusterSnapshot& snapshot) { return Planner(snapshot).Run(); }

}  // namespace studio::controller
