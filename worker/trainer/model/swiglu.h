// silu(gate) * up (arXiv:2002.05202), where gate_up [T, 2 * width] holds gate beside up. Gradients recompute the
// sigmoid instead of keeping it.
#pragma once

#include <ATen/core/TensorBody.h>

namespace studio {

at::Tensor Swiglu(const at::Tensor& gate_up);

}  // namespace studio
