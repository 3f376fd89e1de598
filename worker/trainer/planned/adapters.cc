// The planned step's adapters, a group at a time.
#include "worker/trainer/planned/planned_step.h"

namespace studio::planned {

AdapterDropout PlannedStep::DropoutOf(const Bordered& group, int64_t rows, bool behind) const {
  return {.p = model_.options().lora->dropout,
          .step_key = inputs_.MaskKey(),
          .ids = behind ? inputs_.IdsOfRows(rows) : inputs_.Ids(rows),
          .sites = group.sites()};
}

void PlannedStep::Low(const Bordered& group, const at::Tensor& x, bool behind, at::Tensor low) const {
  if (!drops()) return group.Low(x, std::move(low));
  if (group.has_adapter()) ops_->DroppedLow(x, group.A(), DropoutOf(group, x.size(0), behind), low);
}

void PlannedStep::InputGradient(const Bordered& group, const at::Tensor& bordered_dy, bool behind,
                                at::Tensor dx) const {
  if (!drops() || !group.has_adapter()) return group.Backward(bordered_dy, std::move(dx));
  group.BackwardOfFrozen(bordered_dy.narrow(1, 0, group.out()), dx);
  ops_->AddDroppedBackward(bordered_dy.narrow(1, group.out(), group.rank()), group.A(),
                           DropoutOf(group, dx.size(0), behind), dx);
}

void PlannedStep::GradientOfA(const Bordered& group, const at::Tensor& x, const at::Tensor& d_low, bool behind,
                              at::Tensor a) const {
  if (!drops()) return group.GradientOfA(x, d_low, std::move(a));
  if (!group.has_adapter()) return;
  ops_->DroppedGradientOfA(d_low.narrow(1, 0, group.rank()), x, DropoutOf(group, x.size(0), behind), a);
}

void PlannedStep::MakeGradients(const Bordered& group, const Layout::Layer::Gradient& place, const at::Tensor& x,
                                const at::Tensor& low, const at::Tensor& dy, const at::Tensor& d_low,
                                bool behind) const {
  if (!group.has_adapter()) return;
  GradientOfA(group, x, d_low, behind, Rows(place.a, place.a.rows));
  group.GradientOfB(low, dy, Rows(place.b, 1));
}

}  // namespace studio::planned
