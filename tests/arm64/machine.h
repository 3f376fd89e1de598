// The programs of one machine: this one's, beside the test, or ARM64's, which the kernel hands to the emulator.
//
//   ASSERT_OK_AND_ASSIGN(const Machine arm64, Arm64());
//   Cluster cluster(folder, arm64.Binaries());      // every program of that machine
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "tests/integration/cluster.h"

namespace studio {

struct Machine {
  std::string name;
  // "" where the programs lie beside the test.
  std::string folder;

  std::string Trainer() const;
  // With the real trainer and data preparation.
  Cluster::Binaries Binaries() const;
};

Machine X8664();
// Of the folder that STUDIO_ARM64_BIN names (tests/arm64/run.sh sets it). FailedPrecondition where it names none.
absl::StatusOr<Machine> Arm64();

}  // namespace studio
