#include "worker/trainer/planned/planned_step.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/zeros.h>

#include <optional>
#include <utility>

#include "common/status/check.h"
#include "worker/trainer/model/decoder_parts.h"
#include "worker/trainer/planned/weight_gradients.h"

namespace studio::planned {
namespace {

GroupShape ShapeOf(const LinearGroup& group) {
  return {.in = group.in(), .out = group.out(), .border = group.border()};
}

}  // namespace

LayoutInput LayoutInputOf(CausalLm& model, int64_t max_tokens, int64_t loss_rows) {
  const DecoderParts parts = model.Parts();
  LayoutInput input = {.hidden = parts.arch.hidden_size,
                       .vocab = parts.arch.vocab_size,
                       .layers = {},
                       .max_tokens = max_tokens,
                       .loss_rows = loss_rows,
                       .element_bytes = static_cast<int64_t>(c10::elementSize(model.options().compute_dtype)),
                       .full = !model.options().lora};
  for (const DecoderLayer& layer : parts.layers) {
    input.layers.push_back({ShapeOf(layer.qkv), ShapeOf(layer.o), ShapeOf(layer.gate_up), ShapeOf(layer.down)});
  }
  return input;
}

PlannedStep::PlannedStep(CausalLm& model, int64_t max_tokens, std::shared_ptr<const kernels::Operations> ops,
                         const Options& options)
    : model_(model),
      ops_(std::move(ops)),
      loss_rows_(options.loss_rows),
      measured_attention_(options.measured_attention),
      layout_(Plan(LayoutInputOf(model, max_tokens, options.loss_rows))),
      arena_(layout_.total_bytes, model.options().compute_dtype, model.options().device),
      inputs_(max_tokens, model.architecture().head_dim, model.options().device),
      loss_(at::zeros({}, at::TensorOptions(model.options().device).dtype(at::kDouble))),
      replays_(options.record ? MakeRecorder(model.options().device) : nullptr) {
  std::vector<DecoderLayer>& layers = model.Parts().layers;
  for (size_t i = layers.size(); i-- > 0;) {
    const std::vector<LinearGroup*> groups = layers[i].groups();
    for (int g = static_cast<int>(groups.size()) - 1; g >= 0; --g) {
      if (!groups[static_cast<size_t>(g)]->has_adapter()) continue;
      first_layer_ = i;
      first_group_ = g;
    }
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    DecoderLayer& layer = layers[i];
    for (LinearGroup* group : layer.groups()) {
      for (const auto& [from, to, scale] : group->AdapterCopies(model.options().compute_dtype)) {
        copies_.push_back({from, to, scale});
      }
    }
    groups_.push_back({Bordered(layer.qkv), Bordered(layer.o), Bordered(layer.gate_up), Bordered(layer.down)});
  }
}

at::Tensor PlannedStep::AccumulateGradients(const Batch& batch, double scale) {
  at::NoGradGuard no_grad;
  Micro micro;
  micro.tokens = batch.tokens.size(0);
  const at::Device device = model_.options().device;
  const at::Tensor rows =
      (batch.labelled_rows.defined() ? batch.labelled_rows : at::nonzero(batch.labels.ge(0)).squeeze(1)).to(device);
  micro.learnt = rows.size(0);
  if (micro.learnt == 0) return at::zeros({}, loss_.options());
  if (micro.learnt < micro.tokens) micro.rows = inputs_.Rows(micro.learnt);
  micro.pass = inputs_.Load(batch, *model_.TrainingPass(batch), rows, scale);
  const at::ScalarType type = model_.options().compute_dtype;
  const bool full_size = micro.tokens == layout_.stream.rows;
  micro.attention = full_size && measured_attention_ != nullptr ? measured_attention_->Choose(micro.pass, type, *ops_)
                                                                : ChooseAttention(*micro.pass, type, device, full_size);
  Refresh();
  DropStaleRecordings();

  // The reference attention goes through autograd and reads the segments on the host.
  const bool reference = micro.attention == AttentionKind::kReference;
  const MicroShape shape{.tokens = micro.tokens,
                         .learnt = micro.learnt,
                         .segments = static_cast<int64_t>(micro.pass->cu_seqlens.size()) - 1,
                         .longest = micro.pass->longest,
                         .attention = static_cast<int>(micro.attention),
                         .cu_seqlens = reference ? micro.pass->cu_seqlens : std::vector<int32_t>()};
  replays_.Run(shape, /*recordable=*/!reference || !device.is_cuda(), [this, micro] { Compute(micro); });
  return loss_.clone();
}

void PlannedStep::Compute(const Micro& shape) {
  at::NoGradGuard no_grad;
  // Without autograd's layers of the dispatcher, which cost the host as much as the launch itself. The reference
  // attention needs them.
  std::optional<at::AutoDispatchBelowADInplaceOrView> below;
  if (shape.attention != AttentionKind::kReference) below.emplace();
  Micro micro = shape;
  Forward(micro);
  Head(micro);
  Backward(micro);
}

void PlannedStep::DropStaleRecordings() {
  std::vector<const void*> grads;
  // Made here where they lack, not inside a recording, which would only note that they are to be zeroed.
  for (const NamedParameter& parameter : model_.TrainableParameters()) {
    grads.push_back(GradOf(parameter.tensor).const_data_ptr());
  }
  if (grads == grads_) return;
  replays_.Drop();
  grads_ = std::move(grads);
}

void PlannedStep::Refresh() {
  at::NoGradGuard no_grad;
  bool stale = false;
  for (DecoderLayer& layer : model_.Parts().layers) {
    for (LinearGroup* group : layer.groups()) stale |= group->TakeStaleAdapters(model_.options().compute_dtype);
  }
  // An optimizer's step changes all of them.
  if (stale) ops_->CopyScaled(copies_);
}

}  // namespace studio::planned
