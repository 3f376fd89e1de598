// Finding bitsandbytes' shared library: the one that its wheel carries, by the C interface of 0.45 and later.
//
//   ASSIGN_OR_RETURN(const BitsandbytesLibrary library, OpenBitsandbytes(/*cuda=*/true));
//   auto update = reinterpret_cast<Update*>(dlsym(library.handle, "cadam_8bit_blockwise_grad_fp32"));
//
// Looked for, the first that loads and has the functions: where STUDIO_BITSANDBYTES says (the file, or the folder that
// holds it: nowhere else then), else the trainer's own folder, else the loader's path. By the wheel's names: one for
// each CUDA, whose libraries are in the process already where it can be loaded; on a CPU its own, or a CUDA one, which
// has the CPU's functions too. Without LibTorch. A library that is found stays loaded.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace studio {

struct BitsandbytesLibrary {
  void* handle = nullptr;
  std::string path;
};

// `cuda`: with the kernels for CUDA devices, else with those for the host. NotFound says where it was looked for and
// what the loader said of the first that exists and does not load.
absl::StatusOr<BitsandbytesLibrary> OpenBitsandbytes(bool cuda);

}  // namespace studio
