// Places where a test has this process die: at each change of state, before it is durable, after, and after the answer.
//
//   if (FailpointsSet()) Failpoint(absl::StrCat("controller.", what, ".before"));
//
//   STUDIO_FAILPOINTS=controller.checkpoint.committed        dies there (SIGKILL) the first time
//   STUDIO_FAILPOINTS=controller.checkpoint.committed@3      the third time
//   STUDIO_FAILPOINTS=show                                   prints each name to standard error as it comes by
//
// For tests/faults alone: without the variable nothing is built, compared or printed. Thread-safe.
#pragma once

#include <string_view>

namespace studio {

bool FailpointsSet();
void Failpoint(std::string_view name);

}  // namespace studio
