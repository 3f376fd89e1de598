// The text of our CUDA kernels (cuda/*.cu, one program), part of the binary so that no file must be found at run time.
#pragma once

#include "absl/strings/string_view.h"

namespace studio::kernels {

absl::string_view CudaSource();

}  // namespace studio::kernels
