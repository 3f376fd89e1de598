// What studio-controller does besides serving. Each prints what came of it and returns the exit code: 0 done, 1 error.
#pragma once

#include <string>

namespace studio::controller {

// Asks the controller that runs at `address`. Empty `name`: the time.
int Backup(const std::string& address, const std::string& name);
int Restore(const std::string& backup, const std::string& state_dir);
// 1 where anything is wrong, with a line for each thing.
int Verify(const std::string& folder);

}  // namespace studio::controller
