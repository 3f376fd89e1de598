// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include "absl/strings/string_view.h"

namespace studio {

bool IsValidUtf8(absl::string_view bytes);

}  // namespace studio
