// Starts real processes. See process.h.
#pragma once

#include <memory>

#include "common/env/process.h"

namespace studio {

class PosixLauncher : public Launcher {
 public:
  absl::StatusOr<std::unique_ptr<Process>> Launch(const LaunchSpec& spec) override;
};

}  // namespace studio
