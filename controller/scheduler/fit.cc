#include "controller/scheduler/fit.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

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

// "no worker", "no ARM64 worker": the needs before may have left only some.
std::string NoWorker(const v1::Resources& need) {
  return need.arch() == v1::ARCH_ANY ? "no worker" : absl::StrCat("no ", v1::Arch_Name(need.arch()), " worker");
}

// What the worker as a whole lacks.
Fit FitOfWorker(const WorkerState& worker, const Needs& needs) {
  if (!needs.only_worker.empty() && worker.id != needs.only_worker) {
    return {{},
            Need::kItsOnlyWorker,
            absl::StrCat("its checkpoint can be read on worker ", needs.only_worker, " alone, which is not there")};
  }
  const v1::Resources& need = needs.resources;
  if (need.arch() != v1::ARCH_ANY && need.arch() != worker.inventory.arch()) {
    return {{}, Need::kArch, absl::StrCat("no worker is of architecture ", v1::Arch_Name(need.arch()))};
  }
  for (const std::string& uri : needs.file_uris) {
    if (!UnderARoot(uri, worker.shared_roots)) {
      return {{}, Need::kSharedRoot, absl::StrCat("no worker declares a shared root for ", uri)};
    }
  }
  return {};
}

}  // namespace

Fit FitOn(const WorkerState& worker, const Needs& needs) {
  Fit fit = FitOfWorker(worker, needs);
  if (fit.lacks != Need::kMet) return fit;
  const v1::Resources& need = needs.resources;
  const auto lacks = [&](Need what, const std::string& why_not) {
    fit.lacks = what;
    fit.why_not = why_not;
    return fit;
  };
  // A CUDA machine may list its CPU too: ranks of one job never mix.
  const v1::Backend backend = need.backend() != v1::BACKEND_AUTO ? need.backend() : worker.inventory.backend();
  const std::string device = backend == v1::BACKEND_AUTO ? "device" : v1::Backend_Name(backend) + " device";
  bool any = false, kind = false;
  int64_t largest = 0;
  for (const v1::Device& one : worker.inventory.devices()) {
    if (backend != v1::BACKEND_AUTO && backend != one.backend()) continue;
    any = true;
    if (!absl::StrContains(absl::AsciiStrToLower(one.name()), absl::AsciiStrToLower(need.device_kind()))) continue;
    kind = true;
    largest = std::max(largest, UsableMemory(one));
    if (UsableMemory(one) >= need.device_memory_bytes()) fit.devices.push_back(&one);
  }
  if (!any) {
    return lacks(Need::kBackend,
                 absl::StrCat(NoWorker(need), " has a device",
                              need.backend() == v1::BACKEND_AUTO ? "" : " of backend " + v1::Backend_Name(backend)));
  }
  if (!kind) {
    return lacks(Need::kKind,
                 absl::StrCat(NoWorker(need), " has a ", need.backend() == v1::BACKEND_AUTO ? "device" : device,
                              " of kind \"", need.device_kind(), "\""));
  }
  if (const std::string cannot = WhyNot(needs.asks, worker.inventory); !cannot.empty()) {
    fit.devices.clear();
    return lacks(Need::kCapability,
                 absl::StrCat("no worker can do what it asks for; on worker ", worker.id, ", ", cannot));
  }
  if (fit.devices.empty()) {
    return lacks(Need::kMemory, absl::StrCat("no device has the ", GiB(need.device_memory_bytes()),
                                             " of memory that it asks for (the largest has ", GiB(largest), ")"));
  }
  const int wanted = std::max(1, need.devices());
  if (static_cast<int>(fit.devices.size()) < wanted) {
    return lacks(Need::kCount, absl::StrCat("it asks for ", wanted, " devices on one worker; worker ", worker.id,
                                            " has ", fit.devices.size()));
  }
  return fit;
}

}  // namespace studio::controller
