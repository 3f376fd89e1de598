// AdamW as its parameters want it: KernelAdamW for bf16, and on CUDA where the step has its kernels already; else
// AdamW.
#pragma once

#include <memory>
#include <vector>

#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/optim/optimizer.h"

namespace studio {

// `operations`: null is none; needed where parameters are bf16. Throws what LibTorch throws.
std::unique_ptr<Optimizer> MakeAdamW(const std::vector<Optimizer::Parameter>& parameters, Optimizer::Options options,
                                     std::shared_ptr<const kernels::Operations> operations);

}  // namespace studio
