// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
//
//   if (auto bad = FirstNonUtf8(line)) … *bad is the offset of the first byte that cannot be …
#pragma once

#include <cstddef>
#include <optional>

#include "absl/strings/string_view.h"

namespace studio {

// Nothing where all of it is UTF-8.
std::optional<size_t> FirstNonUtf8(absl::string_view text);

inline bool IsValidUtf8(absl::string_view text) { return !FirstNonUtf8(text).has_value(); }

}  // namespace studio
