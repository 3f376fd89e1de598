// Who calls, and whether they may: asked at the start of every method, from the first version on.
//
//   absl::StatusOr<Caller> caller = Identify(*context);
//   RETURN_IF_ERROR(Authorize(*caller, "job.cancel", request.id()));
//
// Today there are no credentials: a caller from this machine is `local` and may do everything; one from elsewhere can
// only reach us where --insecure opened the door, and is `anonymous`. Pure functions.
#pragma once

#include <grpcpp/server_context.h>

#include <string>

#include "absl/status/status.h"

namespace studio::controller {

struct Caller {
  // What a job's `owner` becomes.
  std::string owner;
};

Caller Identify(const grpc::CallbackServerContext& context);

// PermissionDenied names action and resource. `resource` is a job's or worker's id, or empty.
absl::Status Authorize(const Caller& caller, const std::string& action, const std::string& resource);

// "127.0.0.1:7070", "[::1]:7070" and "localhost:7070" listen on this machine alone.
bool IsLoopback(const std::string& address);

}  // namespace studio::controller
