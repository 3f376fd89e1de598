// Dropout before an adapter's A. Masks come by counter from (seed, step, token, site, channel): the same on every
// device and however a batch is split. Each member of a group has a mask of its own, as in PEFT.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>

#include "worker/trainer/model/linear_group.h"
#include "worker/trainer/model/pass.h"

namespace studio {

// x with each element kept with probability 1 - p and divided by it, else zero.
at::Tensor Dropout(const at::Tensor& x, double p, uint64_t site_key, const at::Tensor& mask_ids);

// The members' drop(x) Aᵀ side by side, [T, rank].
at::Tensor DroppedProduct(const at::Tensor& x, const LinearGroup& group, const LinearGroup::Compute& compute,
                          const Pass& pass);
// Gradient of the members' A, [rank, in]; adds that of x to dx where it is defined.
at::Tensor DroppedBackward(const at::Tensor& x, const at::Tensor& dh, const LinearGroup& group,
                           const LinearGroup::Compute& compute, const Pass& pass, at::Tensor& dx);

}  // namespace studio
