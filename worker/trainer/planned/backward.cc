// The planned step from the gradient of the final norm's output to those of the adapters.
#include <utility>

#include "worker/trainer/model/decoder_parts.h"
#include "worker/trainer/planned/planned_step.h"
#include "worker/trainer/planned/weight_gradients.h"

namespace studio::planned {
namespace {

enum Group { kQkv, kO, kGateUp, kDown };

}  // namespace

void PlannedStep::Backward(Micro& micro) {
  const DecoderParts parts = model_.Parts();
  const int64_t hidden = parts.arch.hidden_size;
  if (full()) NormGradients().zero_();
  ops_->RmsNormBackward(arena_.View(layout_.d_normed, micro.learnt, hidden), Rows(layout_.final_normed, micro.learnt),
                        parts.final_norm, Rows(layout_.final_rstd, micro.learnt).squeeze(1), /*accumulate=*/false,
                        Columns(Rows(layout_.d_stream, micro.learnt), hidden), NormGradient(2 * groups_.size()));
  for (size_t i = groups_.size(); i-- > first_layer_;) {
    const int64_t rows = Fewer(i, micro) ? micro.learnt : micro.tokens;
    BackwardMlp(i, micro, rows);
    if (Needed(i, kO)) BackwardAttention(i, micro, rows);
    micro.saved[i] = {};
  }
  if (!full()) return;
  ops_->EmbeddingGradient(Columns(Rows(layout_.d_stream, micro.tokens), hidden), inputs_.Tokens(micro.tokens),
                          GradOf(parts.embedding));
  for (size_t i = 0; i < groups_.size(); ++i) {
    GradOf(parts.layers[i].input_norm).add_(NormGradient(2 * i));
    GradOf(parts.layers[i].post_attention_norm).add_(NormGradient(2 * i + 1));
  }
  GradOf(parts.final_norm).add_(NormGradient(2 * groups_.size()));
}

at::Tensor PlannedStep::NormGradient(size_t norm) const {
  return full() ? NormGradients()[static_cast<int64_t>(norm)] : at::Tensor();
}

void PlannedStep::BackwardMlp(size_t index, const Micro& micro, int64_t rows) {
  const DecoderLayer& layer = model_.Parts().layers[index];
  const LayerGroups& group = groups_[index];
  const Layout::Layer& place = layout_.layers[index];
  const int64_t hidden = group.down.out();
  const int64_t width = group.down.in();
  const bool fewer = Fewer(index, micro);
  AdapterGradients gradients;

  const at::Tensor d_stream = Columns(Rows(layout_.d_stream, rows), hidden + group.down.border());
  const at::Tensor dy = Columns(d_stream, hidden);
  const at::Tensor d_down_low = d_stream.narrow(1, hidden, group.down.border());
  group.down.LowBackward(dy, d_down_low);
  const at::Tensor gate_up = Rows(place.gate_up, rows);
  const at::Tensor d_gate_up = Columns(gate_up, group.gate_up.out());
  const at::Tensor d_activation = arena_.View(layout_.d_activation, rows, width);
  InputGradient(group.down, d_stream, fewer, d_activation);
  const at::Tensor mlp = Rows(place.mlp_input, rows);
  GradientsOfB(group.down, Rows(place.down_low, rows), dy, gradients);
  BackwardGlu(index, d_activation, d_gate_up, mlp.narrow(1, hidden, group.gate_up.border()), d_down_low, fewer,
              gradients);
  // The activation again, where its gradient was.
  if (full()) AddWeightGradients(layer.down, dy, d_activation);
  if (!Needed(index, kGateUp)) return ops_->AddAdapterGradients(gradients);

  const at::Tensor d_low = gate_up.narrow(1, group.gate_up.out(), group.gate_up.border());
  group.gate_up.LowBackward(d_gate_up, d_low);
  GradientsOfA(group.gate_up, Columns(mlp, hidden), d_low, fewer, gradients);
  ops_->AddAdapterGradients(gradients);
  if (full()) AddWeightGradients(layer.gate_up, d_gate_up, Columns(mlp, hidden));
  if (!Needed(index, kO)) return;
  const at::Tensor d_normed = arena_.View(layout_.d_normed, rows, hidden);
  InputGradient(group.gate_up, gate_up, fewer, d_normed);
  ops_->RmsNormBackward(d_normed, Columns(mlp, hidden), layer.post_attention_norm,
                        Rows(place.mlp_rstd, rows).squeeze(1), /*accumulate=*/true, dy, NormGradient(2 * index + 1));
}

void PlannedStep::BackwardGlu(size_t index, const at::Tensor& d_activation, const at::Tensor& d_gate_up,
                              const at::Tensor& gate_up_low, const at::Tensor& d_down_low, bool fewer,
                              AdapterGradients& gradients) {
  const LayerGroups& group = groups_[index];
  const std::vector<const LinearMember*>&down = group.down.adapters(), &gate_up = group.gate_up.adapters();
  const int64_t r = group.down.rank();
  if (MultipliesInGlu(r) && gate_up.size() == 2) {
    ops_->GluBackwardWithAdapters(kernels::Activation::kSilu, d_activation, d_gate_up,
                                  {.down_low = d_down_low.narrow(1, 0, r),
                                   .gate_low = gate_up_low.narrow(1, 0, r),
                                   .up_low = gate_up_low.narrow(1, r, r),
                                   .down_a = GradOf(down[0]->lora_a),
                                   .gate_b = GradOf(gate_up[0]->lora_b),
                                   .up_b = GradOf(gate_up[1]->lora_b),
                                   .b_scale = group.gate_up.scale(),
                                   .dropout = DropoutOf(group.down, d_activation.size(0), fewer)});
    return;
  }
  ops_->GluBackward(kernels::Activation::kSilu, d_activation, d_gate_up, d_activation);
  GradientsOfA(group.down, d_activation, d_down_low, fewer, gradients);
  if (Needed(index, kGateUp)) GradientsOfB(group.gate_up, gate_up_low, d_gate_up, gradients);
}

void PlannedStep::BackwardAttention(size_t index, Micro& micro, int64_t rows) {
  const DecoderLayer& layer = model_.Parts().layers[index];
  const LayerGroups& group = groups_[index];
  const Layout::Layer& place = layout_.layers[index];
  const AttentionSaved& saved = micro.saved[index];
  const int64_t hidden = group.o.out();
  const bool fewer = Fewer(index, micro);
  AdapterGradients gradients;

  const at::Tensor d_stream = Columns(Rows(layout_.d_stream, rows), hidden + group.o.border());
  const at::Tensor d_o_low = d_stream.narrow(1, hidden, group.o.border());
  group.o.LowBackward(Columns(d_stream, hidden), d_o_low);
  const at::Tensor attended = fewer ? Rows(layout_.attended_rows, rows) : saved.out;
  GradientsOfA(group.o, attended, d_o_low, fewer, gradients);
  GradientsOfB(group.o, Rows(place.o_low, rows), Columns(d_stream, hidden), gradients);
  if (full()) AddWeightGradients(layer.o, Columns(d_stream, hidden), attended);
  if (!Needed(index, kQkv)) return ops_->AddAdapterGradients(gradients);
  at::Tensor d_attended = arena_.View(layout_.d_normed, rows, group.o.in());
  InputGradient(group.o, d_stream, fewer, d_attended);
  if (fewer) {
    // Of other rows than those of q, k and v.
    ops_->AddAdapterGradients(std::exchange(gradients, {}));
    Spread(micro);
    d_attended = Rows(layout_.attended_rows, micro.tokens);
  }

  const at::Tensor d_qkv = arena_.View(layout_.d_qkv, micro.tokens, group.qkv.out() + group.qkv.border());
  const at::Tensor dy = Columns(d_qkv, group.qkv.out());
  AttentionBackward(micro.attention, *ops_, saved, d_attended, micro.pass, dy);
  const at::Tensor input = Rows(place.attention_input, micro.tokens);
  const at::Tensor d_low = d_qkv.narrow(1, group.qkv.out(), group.qkv.border());
  group.qkv.LowBackward(dy, d_low);
  GradientsOfA(group.qkv, Columns(input, hidden), d_low, /*fewer=*/false, gradients);
  GradientsOfB(group.qkv, input.narrow(1, hidden, group.qkv.border()), dy, gradients);
  ops_->AddAdapterGradients(gradients);
  if (full()) {
    AddWeightGradients(layer.qkv, dy, Columns(input, hidden));
  } else if (index == first_layer_) {
    return;
  }
  const at::Tensor d_normed = arena_.View(layout_.d_normed, micro.tokens, hidden);
  InputGradient(group.qkv, d_qkv, /*fewer=*/false, d_normed);
  ops_->RmsNormBackward(d_normed, Columns(input, hidden), layer.input_norm,
                        Rows(place.attention_rstd, micro.tokens).squeeze(1), /*accumulate=*/true,
                        Columns(Rows(layout_.d_stream, micro.tokens), hidden), NormGradient(2 * index));
}

void PlannedStep::Spread(const Micro& micro) {
  const int64_t hidden = model_.Parts().arch.hidden_size;
  const int64_t attended = layout_.attended_rows.width;
  // The rows of attention's output that were chosen have served: their place is large enough for all.
  at::Tensor all = Rows(layout_.attended_rows, micro.tokens);
  all.zero_().index_copy_(0, micro.rows, arena_.View(layout_.d_normed, micro.learnt, attended));
  at::Tensor wide = arena_.View(layout_.d_normed, micro.tokens, hidden);
  wide.zero_().index_copy_(0, micro.rows, Columns(Rows(layout_.d_stream, micro.learnt), hidden));
  Columns(Rows(layout_.d_stream, micro.tokens), hidden).copy_(wide);
}

}  // namespace studio::planned
