#include "worker/trainer/planned/bordered.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "common/status/check.h"
#include "worker/trainer/libtorch/operations.h"

namespace studio::planned {
namespace {

// out [M, N] fp32 = x yᵀ-free product of the compute type, summed in fp32 and, on CUDA, never rounded below it.
void WideProduct(const at::Tensor& x, const at::Tensor& y, at::Tensor out) {
  if (x.scalar_type() == at::kFloat) {
    at::mm_out(out, x, y);
  } else if (x.is_cuda()) {
    libtorch::ProductInFloat(x, y, out);
  } else {
    out.copy_(at::mm(x, y));
  }
}

}  // namespace

Bordered::Bordered(const LinearGroup& group) : group_(group), sites_(group.AdapterSites()) {
  const at::Tensor& all = group.Bordered();
  STUDIO_CHECK(!group.has_adapter() || group.border() > 0) << "an adapter without a border";
  a_ = all.narrow(0, group.out(), group.border()).narrow(1, 0, group.in());
  b_ = all.narrow(0, 0, group.out()).narrow(1, group.in(), group.border());
  forward_ = all.narrow(0, 0, group.out()).t();
  backward_ = all.narrow(1, 0, group.in());
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

void Bordered::AddForward(const at::Tensor& bordered_x, at::Tensor stream) const {
  stream.addmm_(bordered_x, forward_);
  if (group_.Bias().defined()) stream.add_(group_.Bias());
}

void Bordered::AddForward(const at::Tensor& x, const at::Tensor& low, at::Tensor stream) const {
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

void Bordered::GradientOfA(const at::Tensor& x, const at::Tensor& d_low, at::Tensor a) const {
  if (has_adapter()) WideProduct(d_low.narrow(1, 0, a.size(0)).t(), x, a);
}

void Bordered::GradientOfB(const at::Tensor& low, const at::Tensor& dy, at::Tensor b) const {
  if (!has_adapter()) return;
  int64_t column = 0;
  int64_t element = 0;
  for (const LinearMember& member : group_.members()) {
    if (!member.lora_b.defined()) continue;
    const int64_t r = member.lora_b.size(1);
    WideProduct(dy.narrow(1, member.begin, member.out).t(), low.narrow(1, column, r),
                b.narrow(1, element, member.out * r).view({member.out, r}));
    column += r;
    element += member.out * r;
  }
}

}  // namespace studio::planned
