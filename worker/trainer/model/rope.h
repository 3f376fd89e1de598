// Angles of the rotary position embedding, in each of the stretched forms (as Transformers' modeling_rope_utils.py).
//
//   RopeFrequencies rope = InverseFrequencies(arch, longest_position + 1);
//   angle of pair i at position p: p * rope.inverse[i]; cosine and sine are multiplied by rope.scale.
//
// Pure; single precision where Transformers uses it, so that both give the same bits.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/trainer/model/architecture.h"

namespace studio {

struct RopeFrequencies {
  std::vector<float> inverse;  // [head_dim / 2]
  float scale = 1;
};

// `length`: of the longest sequence; only the dynamic form asks.
RopeFrequencies InverseFrequencies(const Architecture& arch, int64_t length);

}  // namespace studio
