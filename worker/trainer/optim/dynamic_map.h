// The 256 numbers that an 8-bit state's byte stands for, as a share of its block's largest (Dettmers, "8-Bit
// Approximations for Parallelism in Deep Learning", arXiv:1511.04561): a dynamic exponent, whose zeros leave fewer bits
// for the fraction. To the bit those of bitsandbytes' create_dynamic_map.
#pragma once

#include <ATen/core/TensorBody.h>

namespace studio {

// fp32 [256], ascending, in the host's memory. Signed: -0.99… to 1; unsigned, with one bit of fraction more: 0 to 1.
at::Tensor DynamicMap(bool is_signed);

}  // namespace studio
