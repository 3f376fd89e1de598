#include "controller/scheduler/scheduler.h"

#include <algorithm>
#include <iterator>
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
  // What is known of all jobs that need the same.
  struct Class {
    // Usable workers that could hold the job, with the devices that it could use there.
    std::vector<std::pair<const WorkerState*, Fit>> candidates;
    // Why there is none.
    std::string never;
    // One of them waits: every candidate is kept for it or for an older job.
    bool waits = false;
  };

  Class Look(const Needs& needs) const {
    Class found;
    Nearest nearest;
    for (const WorkerState& worker : snapshot_.workers) {
      if (!worker.usable) continue;
      Fit fit = FitOn(worker, needs);
      if (fit.lacks == Need::kMet) {
        found.candidates.emplace_back(&worker, std::move(fit));
      } else {
        nearest.Offer(fit);
      }
    }
    if (found.candidates.empty()) {
      found.never = absl::StrCat(nearest.why, nearest.lacks == Need::kBackend ? Backends(snapshot_.workers) : "");
    }
    return found;
  }

  // Why it has to wait; empty where it was placed.
  std::string Place(const WaitingJob& job) {
    if (!any_usable_) return "no worker is connected; start one with studio-worker";
    const auto [known, is_new] = classes_.try_emplace(job.needs.get());
    Class& its_class = known->second;
    if (is_new) its_class = Look(*job.needs);
    if (its_class.candidates.empty()) return its_class.never;
    const int wanted = std::max(1, job.needs->resources.devices());
    const std::string waits = absl::StrCat("waits for ", wanted, wanted == 1 ? " device" : " devices");
    if (its_class.waits) return absl::StrCat(waits, " behind older jobs");
    std::set<std::string> holders;
    for (const auto& [worker, fit] : its_class.candidates) {
      const auto& taken = busy_[worker->id];
      std::vector<const v1::Device*> free;
      for (const v1::Device* device : fit.devices) {
        const auto holder = taken.find(device->id());
        if (holder == taken.end()) {
          free.push_back(device);
        } else {
          holders.insert(holder->second);
        }
      }
      const auto kept = kept_for_.find(worker->id);
      if (kept != kept_for_.end()) {
        holders.insert(kept->second);
      } else if (static_cast<int>(free.size()) >= wanted) {
        Start(job, *worker, {free.begin(), free.begin() + wanted});
        return "";
      }
    }
    its_class.waits = true;
    for (const auto& [worker, fit] : its_class.candidates) kept_for_.emplace(worker->id, job.id);
    return absl::StrCat(waits, ": busy with or kept for ", Some(holders));
  }

  // At most a handful of names.
  static std::string Some(const std::set<std::string>& names) {
    constexpr size_t kShown = 5;
    if (names.size() <= kShown) return absl::StrJoin(names, ", ");
    return absl::StrCat(absl::StrJoin(names.begin(), std::next(names.begin(), kShown), ", "), " and ",
                        names.size() - kShown, " more");
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
  std::map<const Needs*, Class> classes_;                           // looked up only: no order of addresses shows
  std::map<std::string, std::map<std::string, std::string>> busy_;  // worker → device → job
  std::map<std::string, std::string> kept_for_;                     // worker → the older job that waits for it
  std::vector<Action> actions_;
};

}  // namespace

std::vector<Action> Plan(const ClusterSnapshot& snapshot) { return Planner(snapshot).Run(); }

}  // namespace studio::controller
