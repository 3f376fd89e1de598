#include "worker/trainer/status/failure.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "common/memory/oom_reason.h"
#include "common/memory/out_of_memory.h"
#include "common/memory/process_end.h"

namespace studio {
namespace {

constexpr char kReasonUrl[] = "studio.v1.Reason";

std::string_view TextOf(const absl::Status& status) { return {status.message().data(), status.message().size()}; }

}  // namespace

absl::Status FailureError(v1::Reason reason, std::string_view message) {
  absl::Status status = absl::InternalError(absl::string_view(message.data(), message.size()));
  status.SetPayload(kReasonUrl, absl::Cord(v1::Reason_Name(reason)));
  return status;
}

absl::Status WithContext(const absl::Status& status, std::string_view context) {
  absl::Status result(status.code(), absl::StrCat(absl::string_view(context.data(), context.size()), status.message()));
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& value) { result.SetPayload(url, value); });
  return result;
}

v1::Reason ReasonOf(const absl::Status& status) {
  if (const auto name = status.GetPayload(kReasonUrl)) {
    v1::Reason reason;
    if (v1::Reason_Parse(std::string(*name), &reason)) return reason;
  }
  if (const Oom oom = OomOf(TextOf(status)); oom != Oom::kNone) return ReasonOf(oom);
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return v1::REASON_UNSPECIFIED;
    // What a person or a file said cannot be right: trying again cannot help.
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kDataLoss:
      return v1::BAD_INPUT;
    // Not memory (see above): the disk is full, or fails.
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kUnavailable:
      return v1::STORAGE;
    default:
      return v1::CRASH;
  }
}

std::string Explained(const absl::Status& status) {
  const std::string_view remedy = OomRemedy(OomOf(TextOf(status)));
  return absl::StrCat(status.message(), remedy.empty() ? "" : "; ", absl::string_view(remedy.data(), remedy.size()));
}

int ExitCode(v1::Reason reason) {
  switch (reason) {
    case v1::REASON_UNSPECIFIED:
      return 0;
    case v1::BAD_INPUT:
      return kExitBadInput;
    case v1::DEVICE_OOM:
      return kExitDeviceOom;
    case v1::HOST_OOM:
      return kExitHostOom;
    default:
      return kExitCrash;
  }
}

}  // namespace studio
