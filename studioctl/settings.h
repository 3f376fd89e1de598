// Where the controller is and how to print: a flag over the environment over ~/.config/studio/config.pb.txt.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "studioctl/console.h"

namespace studio::ctl {

struct Settings {
  std::string controller;  // host:port
  std::string output;      // "table", …
};

// `flags` holds what was given on the command line, empty elsewhere. STUDIO_CONTROLLER, STUDIO_OUTPUT; STUDIO_CONFIG
// names another file. InvalidArgument for a file that cannot be read as it should.
absl::StatusOr<Settings> ResolveSettings(const Settings& flags, const Console& console);

}  // namespace studio::ctl
