#include "worker/trainer/parallel/peer_loss.h"

#include "absl/strings/cord.h"
#include "worker/trainer/status/failure.h"

namespace studio {
namespace {

constexpr char kUrl[] = "studio.PeerLoss";

}  // namespace

absl::Status PeerLossError(std::string_view message) {
  absl::Status status = FailureError(v1::CRASH, message);
  status.SetPayload(kUrl, absl::Cord("1"));
  return status;
}

bool IsPeerLoss(const absl::Status& status) { return status.GetPayload(kUrl).has_value(); }

}  // namespace studio
