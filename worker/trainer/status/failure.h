// What a rank's Status means to those who started it: a reason for the controller, an exit code for a shell.
//
//   if (absl::Status status = Train(…); !status.ok()) {
//     link.Send(Failure{ReasonOf(status), status.message()});
//     return ExitCode(ReasonOf(status));
//   }
//
// Pure functions; any thread.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "proto/studio/v1/state.pb.h"

namespace studio {

// The retry policy reads the reason: BAD_INPUT is never retried, out of memory gets a smaller plan.
v1::Reason ReasonOf(const absl::Status& status);

// A Status whose reason is `reason`, whatever its message says.
absl::Status FailureError(v1::Reason reason, std::string_view message);

// The same Status with words in front of its message; the reason is kept.
absl::Status WithContext(const absl::Status& status, std::string_view context);

// 65 bad input, 71 device out of memory, 72 host out of memory, 70 everything else (EX_DATAERR and EX_SOFTWARE of
// sysexits.h, and two of our own).
int ExitCode(v1::Reason reason);

}  // namespace studio
