// Where the ranks of an attempt on one machine meet: a socket that listens on the loopback before any rank starts, so
// that no port is fixed, guessed or taken by another meanwhile. Rank 0 inherits it and serves the store on it.
//
//   ASSIGN_OR_RETURN(const StoreSocket socket, ListenForStore());   // 127.0.0.1:socket.port
#pragma once

#include "absl/status/statusor.h"
#include "common/env/unique_fd.h"

namespace studio::worker {

struct StoreSocket {
  // Closed on exec: who inherits it is said at each launch.
  UniqueFd fd;
  int port = 0;
};

// Unavailable where the machine gives no socket.
absl::StatusOr<StoreSocket> ListenForStore();

}  // namespace studio::worker
