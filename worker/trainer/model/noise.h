// NEFTune's noise on the embeddings (arXiv:2310.05914): uniform within ± alpha / sqrt(length * width) of the segment,
// by counter from (seed, step, token, channel).
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>

#include "worker/trainer/model/pass.h"

namespace studio {

// [T, width] fp32 on the CPU.
at::Tensor EmbeddingNoise(const Pass& pass, int64_t width, double alpha);

}  // namespace studio
