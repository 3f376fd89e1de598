#include "worker/trainer/loop/readback.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace studio {

Readback::Readback(const std::vector<at::Tensor>& numbers) {
  const at::Tensor there = at::stack(numbers);
  // Other accelerators' copies wait by themselves.
  if (!there.is_cuda()) {
    host_ = there.cpu();
    return;
  }
  host_ = at::empty(there.sizes(), at::TensorOptions(at::kDouble).pinned_memory(true));
  host_.copy_(there, /*non_blocking=*/true);
  const c10::impl::VirtualGuardImpl guard(there.device().type());
  copied_.emplace(there.device().type());
  copied_->record(guard.getStream(there.device()));
}

std::vector<double> Readback::Read() {
  if (copied_) copied_->synchronize();
  const double* const numbers = host_.const_data_ptr<double>();
  return {numbers, numbers + host_.numel()};
}

}  // namespace studio
