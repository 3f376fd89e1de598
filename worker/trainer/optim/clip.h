// Clipping by the global norm, as torch.nn.utils.clip_grad_norm_ does it.
//
//   const double grad_norm = ClipGradNorm(optimizer.grads(), 1.0);
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace studio {

// Scales the gradients in place so that their global L2 norm is at most `max_norm` (0: no clipping), and returns the
// norm before. A norm that is not finite leaves NaN in the gradients: the caller must not step then.
double ClipGradNorm(const std::vector<at::Tensor>& grads, double max_norm);

}  // namespace studio
