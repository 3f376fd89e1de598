#include "tests/arm64/machine.h"

#include <cstdlib>

#include "absl/status/status.h"

namespace studio {
namespace {

std::string Program(const Machine& machine, const std::string& path) {
  return machine.folder.empty() ? path : machine.folder + "/" + path;
}

}  // namespace

std::string Machine::Trainer() const { return Program(*this, "worker/trainer/studio-trainer"); }

Cluster::Binaries Machine::Binaries() const {
  Cluster::Binaries binaries;
  binaries.controller = Program(*this, binaries.controller);
  binaries.worker = Program(*this, binaries.worker);
  binaries.studioctl = Program(*this, binaries.studioctl);
  binaries.trainer = Trainer();
  binaries.dataprep = Program(*this, "worker/data/studio-dataprep");
  return binaries;
}

Machine X8664() { return {"x86-64", ""}; }

absl::StatusOr<Machine> Arm64() {
  const char* folder = std::getenv("STUDIO_ARM64_BIN");
  if (folder == nullptr) {
    return absl::FailedPreconditionError("STUDIO_ARM64_BIN names no folder of ARM64 programs: run make arm64-test");
  }
  return Machine{"arm64", folder};
}

}  // namespace studio
