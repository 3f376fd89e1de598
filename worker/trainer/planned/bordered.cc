#include "worker/trainer/planned/bordered.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "common/status/check.h"

namespace studio::planned {
Bordered::Bordered(const LinearGroup& group) : group_(group), sites_(group.AdapterSites()) {
  const at::Tensor& all = group.Bordered();
  STUDIO_CHECK(!group.has_adapter() || group.border() > 0) << "an adapter without a border";
  a_ = all.narrow(0, group.out(), group.border()).narrow(1, 0, group.in());
  b_ = all.narrow(0, 0, group.out()).narrow(1, group.in(), group.border());
  forward_ = all.narrow(0, 0, group.out()).t();
  backward_ = all.narrow(1, 0, group.in());
  for (const LinearMember& member : group.members()) {
    if (member.lora_a.defined()) adapters_.push_back(&member);
  }
}

void Bordered::Low(const at::Tensor& x, at::Tensor low) const {
  if (has_adapter()) at::mm_out(low, x, a_.t());
}

void Bordered::Forward(const at::Tensor& bordered_x, at::Tensor y) const {
  if (group_.Bias().defined()) {
    at::addmm_out(y, group_.Bias(), bordered_x, forward_);
  } else {
    at::mm_out(y, bordered_x, forward_);
  }
}

void Bordered::AddForward(const at::Tensor& bordered_x, const at::Tensor& stream) const {
  stream.addmm_(bordered_x, forward_);
  if (group_.Bias().defined()) stream.add_(group_.Bias());
}

void Bordered::AddForward(const at::Tensor& x, const at::Tensor& low, const at::Tensor& stream) const {
  stream.addmm_(x, forward_.narrow(0, 0, in()));
  if (has_adapter()) stream.addmm_(low, b_.t());
  if (group_.Bias().defined()) stream.add_(group_.Bias());
}

void Bordered::LowBackward(const at::Tensor& dy, at::Tensor d_low) const {
  if (has_adapter()) at::mm_out(d_low, dy, b_);
}

void Bordered::Backward(const at::Tensor& bordered_dy, at::Tensor dx) const { at::mm_out(dx, bordered_dy, backward_); }

void Bordered::BackwardOfFrozen(const at::Tensor& dy, at::Tensor dx) const {
  at::mm_out(dx, dy, backward_.narrow(0, 0, out()));
}

}  // namespace studio::planned
