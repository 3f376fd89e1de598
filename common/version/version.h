// The version of all of Studio's programs, as their --version and their greetings say it, and the protocol versions
// that they speak: each end says its range, and they agree on the highest that both know.
#pragma once

#include <algorithm>
#include <string>

namespace studio {

inline constexpr char kVersion[] = "0.1.0";

// Of the messages in proto/studio/v1. A change that an older end would misunderstand raises the upper one; the lower
// one follows once nobody speaks it any more.
inline constexpr int kMinProtocol = 1;
inline constexpr int kMaxProtocol = 1;

// Empty where the two ranges overlap; else one sentence that names both and the remedy.
inline std::string ProtocolsDiffer(const std::string& we, int our_min, int our_max, const std::string& they,
                                   int their_min, int their_max) {
  if (std::max(our_min, their_min) <= std::min(our_max, their_max)) return "";
  return they + " speaks protocol " + std::to_string(their_min) + " to " + std::to_string(their_max) + ", " + we + " " +
         std::to_string(our_min) + " to " + std::to_string(our_max) + ": upgrade " + (their_max < our_min ? they : we);
}

}  // namespace studio
