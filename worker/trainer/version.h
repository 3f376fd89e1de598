// The trainer's version, as --version and --probe say it.
#pragma once

namespace studio {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace studio
