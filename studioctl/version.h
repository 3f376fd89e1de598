#pragma once

namespace studio::ctl {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace studio::ctl
