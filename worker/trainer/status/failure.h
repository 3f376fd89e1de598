// What a rank's Status means to those who started it: a reason for the controller, an exit code for a shell.
//
//   if (absl::Status status = Train(…); !status.ok()) {
//     link.Send(Failure{ReasonOf(status), Explained(status)});
//     return ExitCode(ReasonOf(status));
//   }
//
// Pure functions; any thread.
#pragma once

#include <string>
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

// Its message for people: out of memory comes with what can be done about it.
std::string Explained(const absl::Status& status);

// As common/memory/process_end.h names them; what has no code of its own is a crash.
int ExitCode(v1::Reason reason);

}  // namespace studio
