// Between absl::Status and grpc::Status: the codes are the same numbers, so nothing is lost.
#pragma once

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace studio {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace studio
