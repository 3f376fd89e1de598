// AdamW as its parameters' type wants it: AdamW for fp32, AdamWByChance for bf16.
#pragma once

#include <memory>
#include <vector>

#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/optim/optimizer.h"

namespace studio {

// `operations`: needed where parameters are bf16. Throws what LibTorch throws.
std::unique_ptr<Optimizer> MakeAdamW(const std::vector<Optimizer::Parameter>& parameters, Optimizer::Options options,
                                     std::shared_ptr<const kernels::Operations> operations);

}  // namespace studio
