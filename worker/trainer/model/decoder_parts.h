// What a CausalLm consists of, for a schedule other than its own (planned/). Belongs to the model; nothing is copied.
#pragma once

#include <ATen/core/TensorBody.h>

#include <vector>

#include "worker/trainer/model/architecture.h"
#include "worker/trainer/model/layer.h"

namespace studio {

struct DecoderParts {
  const Architecture& arch;
  at::Tensor embedding;   // [V, H]
  at::Tensor final_norm;  // [H]
  at::Tensor head;        // [V, H]; the embedding itself where tied
  std::vector<DecoderLayer>& layers;
};

}  // namespace studio
