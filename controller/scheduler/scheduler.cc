#include "controller/scheduler/scheduler.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace studio::controller {
namespace {

std::string GiB(int64_t bytes) { return absl::StrCat((bytes + (1 << 29)) >> 30, " GiB"); }

int64_t UsableMemory(const v1::Device& device) {
  return device.allocatable_memory_bytes() > 0 ? device.allocatable_memory_bytes() : device.total_memory_bytes();
}

bool UnderARoot(const std::string& uri, const std::vector<std::string>& roots) {
  return std::any_of(roots.begin(), roots.end(), [&](const std::string& root) {
    const std::string prefix = absl::StartsWith(root, "file:") ? root : "file:" + root;
    return uri == prefix || absl::StartsWith(uri, absl::EndsWith(prefix, "/") ? prefix : prefix + "/");
  });
}

struct Fit {
  // Devices that the job could use, free or not. Fewer than it asks for: `why_not` says what lacks.
  std::vector<const v1::Device*> devices;
  std::string why_not;
};

// What of a worker could serve the job if nothing else ran there.
Fit FitOn(const WorkerState& worker, const WaitingJob& job) {
  const v1::Resources& need = job.resources;
  const v1::Inventory& has = worker.inventory;
  if (!job.only_worker.empty() && worker.id != job.only_worker) {
    return {{}, absl::StrCat("its checkpoint can be read on worker ", job.only_worker, " alone, which is not there")};
  }
  if (need.arch() != v1::ARCH_ANY && need.arch() != has.arch()) {
    return {{}, absl::StrCat("no worker is of architecture ", v1::Arch_Name(need.arch()))};
  }
  for (const std::string& uri : job.file_uris) {
    if (!UnderARoot(uri, worker.shared_roots)) return {{}, absl::StrCat("no worker declares a shared root for ", uri)};
  }
  Fit fit;
  bool backend = false, kind = false;
  int64_t largest = 0;
  // A CUDA machine may list its CPU too: ranks of one job never mix.
  const v1::Backend wanted_backend = need.backend() != v1::BACKEND_AUTO ? need.backend() : has.backend();
  for (const v1::Device& device : has.devices()) {
    if (wanted_backend != v1::BACKEND_AUTO && wanted_backend != device.backend()) continue;
    backend = true;
    if (!absl::StrContains(absl::AsciiStrToLower(device.name()), absl::AsciiStrToLower(need.device_kind()))) continue;
    kind = true;
    largest = std::max(largest, UsableMemory(device));
    if (UsableMemory(device) < need.device_memory_bytes()) continue;
    fit.devices.push_back(&device);
  }
  const int wanted = std::max(1, need.devices());
  if (static_cast<int>(fit.devices.size()) >= wanted) return fit;
  if (!backend) {
    fit.why_not =
        absl::StrCat("no worker has a device",
                     need.backend() == v1::BACKEND_AUTO ? "" : " of backend " + v1::Backend_Name(need.backend()));
  } else if (!kind) {
    fit.why_not = absl::StrCat("no worker has a device of kind \"", need.device_kind(), "\"");
  } else if (fit.devices.empty()) {
    fit.why_not = absl::StrCat("no device has the ", GiB(need.device_memory_bytes()), " of memory that it asks for",
                               " (the largest has ", GiB(largest), ")");
  } else {
    fit.why_not =
        absl::StrCat("it asks for ", wanted, " devices on one worker; worker ", worker.id, " has ", fit.devices.size());
  }
  return fit;
}

// Of several workers' obstacles, the one of the worker that came nearest: the one with most matching devices.
struct Nearest {
  size_t devices = 0;
  std::string why;
  void Offer(const Fit& fit) {
    if (!why.empty() && fit.devices.size() <= devices) return;
    devices = fit.devices.size();
    why = fit.why_not;
  }
};

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
      if (!why.empty() && why != job.message) actions_.push_back(Explain{job.id, why});
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
      if (!fit.why_not.empty()) {
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
    if (candidates.empty()) return nearest.why;
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
    actions_.push_back(std::move(assign));
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
