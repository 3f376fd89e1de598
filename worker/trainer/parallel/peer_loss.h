// Tells a rank that failed by itself from one that only lost the others: the first is the cause of an attempt's end.
//
//   return PeerLossError("rank 1 of 4: the sum of the gradients failed: connection closed by peer");
//   if (IsPeerLoss(status)) failure.set_lost_peers(true);
//
// Pure functions; any thread. WithContext (status/failure.h) keeps the mark.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace studio {

absl::Status PeerLossError(std::string_view message);
bool IsPeerLoss(const absl::Status& status);

}  // namespace studio
