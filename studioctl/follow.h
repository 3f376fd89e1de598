// Watches a job to its end, over restarts of the controller.
//
//   return Follow(connection, "j7", {});   // the exit code of the job's outcome
#pragma once

#include <string>

#include "absl/time/time.h"
#include "studioctl/connection.h"
#include "studioctl/exit_codes.h"

namespace studio::ctl {

struct FollowOptions {
  // How long to wait for a controller that went away before giving up with kUnreachable.
  absl::Duration patience = absl::Minutes(10);
};

// Draws progress on the console. kNotFinished where Ctrl-C came first: the job goes on.
ExitCode Follow(Connection& connection, const std::string& id, const FollowOptions& options);

}  // namespace studio::ctl
