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

}  // namespace studio::worker
