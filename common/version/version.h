// The version of all of Studio's programs, as their --version and their greetings say it.
#pragma once

namespace studio {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace studio
