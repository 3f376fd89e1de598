// Shared libraries that this machine may have. None is linked: each is looked for by dlopen when asked.
#pragma once

#include <set>
#include <string>

namespace studio {

// Of common/platform/features.h: nvml, nccl, bitsandbytes, where the loader finds a library of theirs (bitsandbytes:
// see bitsandbytes.h; with kernels for CUDA where `cuda`). A library that is found stays loaded.
std::set<std::string> FindOptionalLibraries(bool cuda);

}  // namespace studio
