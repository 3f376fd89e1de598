// Tells out-of-memory errors from their texts: the C++ exceptions of one cause differ by version and by library.
//
//   if (OomOf("CUDA out of memory. Tried to allocate 20.00 MiB") == Oom::kDevice) …
#pragma once

#include <string_view>

namespace studio {

enum class Oom { kNone, kDevice, kHost };

Oom OomOf(std::string_view text);

}  // namespace studio
