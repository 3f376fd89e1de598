// Clipping by the global norm, as torch.nn.utils.clip_grad_norm_ does it.
//
//   const at::Tensor grad_norm = ClipGradNorm(optimizer.grads(), 1.0);   // read with .item() when it is wanted
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace studio {

// Scales the gradients in place so that their global L2 norm is at most `max_norm` (0: no clipping), and returns the
// norm before, an fp32 scalar on their device that is not waited for. A norm that is not finite leaves NaN in the
// gradients, and in the weights after a step with them: the caller ends the run when it reads it.
at::Tensor ClipGradNorm(const std::vector<at::Tensor>& grads, double max_norm);

}  // namespace studio
