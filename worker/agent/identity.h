// Who this worker is: an id for life, a number for each start of the agent, and the kernel's boot.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/env/env.h"

namespace studio::worker {

struct Identity {
  std::string worker_id;
  // 1 at the first start.
  int64_t incarnation = 0;
  // Another one than before proves that every earlier process is dead.
  std::string boot_id;
};

// Counts this start, durably. `hostname` and `random` make the id at the first start.
absl::StatusOr<Identity> StartIdentity(Env& env, const std::string& state_dir, const std::string& hostname,
                                       uint64_t random);

}  // namespace studio::worker
