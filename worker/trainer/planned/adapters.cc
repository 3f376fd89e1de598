// The planned step's adapters, a group at a time.
#include <utility>

#include "worker/trainer/planned/planned_step.h"
#include "worker/trainer/planned/weight_gradients.h"

namespace studio::planned {

AdapterDropout PlannedStep::DropoutOf(const Bordered& group, int64_t rows, bool fewer) const {
  if (!drops()) return {};
  return {.p = model_.options().lora->dropout,
          .step_key = inputs_.MaskKey(),
          .ids = fewer ? inputs_.IdsOfRows(rows) : inputs_.Ids(rows),
          .sites = group.sites()};
}

void PlannedStep::Low(const Bordered& group, const at::Tensor& x, bool fewer, at::Tensor low) const {
  if (!drops()) return group.Low(x, std::move(low));
  if (group.has_adapter()) ops_->DroppedLow(x, group.A(), DropoutOf(group, x.size(0), fewer), low);
}

void PlannedStep::InputGradient(const Bordered& group, const at::Tensor& bordered_dy, bool fewer, at::Tensor dx) const {
  if (!drops() || !group.has_adapter()) return group.Backward(bordered_dy, std::move(dx));
  group.BackwardOfFrozen(bordered_dy.narrow(1, 0, group.out()), dx);
  ops_->AddDroppedBackward(bordered_dy.narrow(1, group.out(), group.rank()), group.A(),
                           DropoutOf(group, dx.size(0), fewer), dx);
}

void PlannedStep::GradientsOfA(const Bordered& group, const at::Tensor& x, const at::Tensor& d_low, bool fewer,
                               AdapterGradients& gradients) const {
  int64_t column = 0;
  for (size_t i = 0; i < group.adapters().size(); ++i) {
    const LinearMember& member = *group.adapters()[i];
    const int64_t r = member.lora_a.size(0);
    gradients.push_back({.narrow = d_low.narrow(1, column, r),
                         .wide = x,
                         .grad = GradOf(member.lora_a),
                         .dropout = DropoutOf(group, x.size(0), fewer),
                         .which = i});
    column += r;
  }
}

void PlannedStep::GradientsOfB(const Bordered& group, const at::Tensor& low, const at::Tensor& dy,
                               AdapterGradients& gradients) {
  int64_t column = 0;
  for (const LinearMember* member : group.adapters()) {
    const int64_t r = member->lora_b.size(1);
    gradients.push_back({.narrow = low.narrow(1, column, r),
                         .wide = dy.narrow(1, member->begin, member->out),
                         .grad = GradOf(member->lora_b),
                         .scale = group.scale(),
                         .transposed = true});
    column += r;
  }
}

}  // namespace studio::planned
