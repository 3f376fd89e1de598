// Operations in LibTorch's own, for any device: the formula written plainly, several passes each. What CPUs run, what
// CUDA runs where our kernels cannot be compiled, and what those are tested against.
#pragma once

#include <memory>

#include "worker/trainer/kernels/operations.h"

namespace studio::kernels {

std::unique_ptr<Operations> MakeAtenOperations();

}  // namespace studio::kernels
