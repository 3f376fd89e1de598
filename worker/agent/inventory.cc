#include "worker/agent/inventory.h"

#include <google/protobuf/text_format.h>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio::worker {
namespace {

absl::StatusOr<v1::Inventory> Probe(Launcher& launcher, const std::string& path) {
  LaunchSpec spec;
  spec.argv = {path, "--probe"};
  spec.environment = EnvironmentWith({});
  ASSIGN_OR_RETURN(const std::string text, RunForOutput(launcher, spec));
  v1::Inventory inventory;
  if (!google::protobuf::TextFormat::ParseFromString(text, &inventory)) {
    return absl::InternalError(absl::StrCat(path, " --probe printed no inventory: ", text.substr(0, 200)));
  }
  return inventory;
}

}  // namespace

absl::StatusOr<ProbedTrainer> ProbeTrainer(Launcher& launcher, const std::vector<std::string>& candidates) {
  std::string wrong;
  for (const std::string& path : candidates) {
    const absl::StatusOr<v1::Inventory> inventory = Probe(launcher, path);
    if (inventory.ok()) return ProbedTrainer{path, *inventory};
    absl::StrAppend(&wrong, wrong.empty() ? "" : "; ", inventory.status().message());
  }
  return absl::FailedPreconditionError(absl::StrCat("no trainer works here (", wrong, "): name one with --trainer"));
}

absl::Status OfferCpuRanks(v1::Inventory& inventory, int ranks) {
  if (ranks == 1) return absl::OkStatus();
  if (ranks < 1 || inventory.backend() != v1::CPU || inventory.devices_size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat("--cpu-ranks ", ranks, ": this machine trains on ",
                                                   v1::Backend_Name(inventory.backend()), " with ",
                                                   inventory.devices_size(), " devices, one rank each; leave it out"));
  }
  v1::Device share = inventory.devices(0);
  share.set_total_memory_bytes(share.total_memory_bytes() / ranks);
  share.set_allocatable_memory_bytes(share.allocatable_memory_bytes() / ranks);
  inventory.clear_devices();
  for (int i = 0; i < ranks; ++i) {
    share.set_id(absl::StrCat("cpu:", i));
    *inventory.add_devices() = share;
  }
  return absl::OkStatus();
}

}  // namespace studio::worker
