// What a studioctl process ends with; scripts rely on them (docs/cli.md).
#pragma once

#include "absl/status/status.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::ctl {

enum ExitCode {
  kDone = 0,
  kError = 1,
  kUsage = 2,
  kJobFailed = 100,
  kNotFinished = 101,
  kNotFound = 102,
  kJobCancelled = 103,
  kUnreachable = 104,
  kRefused = 105,
};

// Of a call to the controller.
inline ExitCode ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kDone;
    case absl::StatusCode::kNotFound:
      return kNotFound;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kUnreachable;
    case absl::StatusCode::kInvalidArgument:
      return kRefused;
    default:
      return kError;
  }
}

inline bool IsTerminal(v1::JobState state) {
  return state == v1::SUCCEEDED || state == v1::FAILED || state == v1::CANCELLED;
}

inline ExitCode ExitCodeOf(v1::JobState state) {
  switch (state) {
    case v1::SUCCEEDED:
      return kDone;
    case v1::FAILED:
      return kJobFailed;
    case v1::CANCELLED:
      return kJobCancelled;
    default:
      return kNotFinished;
  }
}

}  // namespace studio::ctl
