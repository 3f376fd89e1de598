// Two sides of a network cable on one machine: this process moves into a network namespace of its own, and programs
// that are started with `prefix()` run in a second one; a veth pair is all that joins them. Nothing of it has a name
// outside, and it goes with this process.
//
//   ASSIGN_OR_RETURN(const std::unique_ptr<FarSide> far, FarSide::Create());   // before anything else has threads
//   … listen on far->near_address(); start the other end with far->prefix() …
//   RETURN_IF_ERROR(far->Cut(/*up=*/true, /*down=*/false));   // packets from the far side are lost; those to it arrive
//   RETURN_IF_ERROR(far->Cut(false, false));
//
// PermissionDenied where this user may make no namespaces, NotFound without iproute2 (`ip` and `tc`).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/env/posix_launcher.h"
#include "common/env/unique_fd.h"

namespace studio {

class FarSide {
 public:
  static absl::StatusOr<std::unique_ptr<FarSide>> Create();

  std::string near_address() const { return "10.77.0.1"; }
  // A command that starts a program on the far side.
  std::vector<std::string> prefix() const;
  // What is lost from now on: `up`, from the far side; `down`, to it. No end is told, as when a cable is pulled.
  absl::Status Cut(bool up, bool down);

 private:
  explicit FarSide(UniqueFd space) : space_(std::move(space)) {}
  absl::Status Run(std::vector<std::string> command);
  std::string SpacePath() const;

  PosixLauncher launcher_;
  const UniqueFd space_;
  bool up_cut_ = false, down_cut_ = false;
};

}  // namespace studio
