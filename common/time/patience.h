// How long a test waits for what another process or thread must do, before it says that it did not come.
//
//   poll(&wait, 1, absl::ToInt64Milliseconds(Patience(absl::Minutes(2))));
//
// The limit is for failures alone: a test that passes never waits for it.
#pragma once

#include <cstdlib>

#include "absl/time/time.h"

namespace studio {

// Under an emulator (STUDIO_EMULATED; third_party/arm64/run.sh sets it) programs are some twenty times slower, so that
// a limit of this machine's says nothing about them.
inline constexpr int kEmulatedTimes = 20;

inline absl::Duration Patience(absl::Duration natively) {
  return std::getenv("STUDIO_EMULATED") != nullptr ? natively * kEmulatedTimes : natively;
}

}  // namespace studio
