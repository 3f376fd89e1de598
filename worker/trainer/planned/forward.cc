// The planned step from tokens to the gradient of the final norm's output.
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>

#include <algorithm>

#include "worker/trainer/model/decoder_parts.h"
#include "worker/trainer/planned/planned_step.h"
#include "worker/trainer/planned/weight_gradients.h"

namespace studio::planned {

void PlannedStep::Forward(Micro& micro) {
  const DecoderParts parts = model_.Parts();
  at::Tensor stream = Rows(layout_.stream, micro.tokens);
  at::index_select_out(stream, parts.embedding, 0, inputs_.Tokens(micro.tokens));
  for (size_t i = 0; i < groups_.size(); ++i) ForwardLayer(i, micro, stream);
  ops_->RmsNormForward(stream, at::Tensor(), parts.final_norm, parts.arch.rms_norm_eps,
                       Rows(layout_.final_normed, micro.learnt), Rows(layout_.final_rstd, micro.learnt).squeeze(1));
}

void PlannedStep::ForwardLayer(size_t index, Micro& micro, at::Tensor& stream) {
  const DecoderParts parts = model_.Parts();
  const DecoderLayer& layer = parts.layers[index];
  const LayerGroups& group = groups_[index];
  const Layout::Layer& place = layout_.layers[index];
  const double eps = parts.arch.rms_norm_eps;
  const int64_t hidden = parts.arch.hidden_size;

  const at::Tensor input = Rows(place.attention_input, micro.tokens);
  ops_->RmsNormForward(stream, at::Tensor(), layer.input_norm, eps, Columns(input, hidden),
                       Rows(place.attention_rstd, micro.tokens).squeeze(1));
  Low(group.qkv, Columns(input, hidden), /*fewer=*/false, input.narrow(1, hidden, group.qkv.border()));
  const at::Tensor qkv = Rows(place.qkv, micro.tokens);
  group.qkv.Forward(input, qkv);
  micro.saved.push_back(AttentionForward(micro.attention, *ops_, qkv, micro.pass));
  at::Tensor attended = micro.saved.back().out;

  const bool fewer = Fewer(index, micro);
  if (fewer) {
    // Behind the last attention, rows without a label reach no loss: they go no further.
    at::Tensor kept = Rows(layout_.attended_rows, micro.learnt);
    at::index_select_out(kept, attended, 0, micro.rows);
    attended = kept;
    at::Tensor kept_stream = arena_.View(layout_.d_normed, micro.learnt, hidden);
    at::index_select_out(kept_stream, stream, 0, micro.rows);
    stream = kept_stream;
  }
  const int64_t rows = stream.size(0);
  const at::Tensor o_low = Rows(place.o_low, rows);
  Low(group.o, attended, fewer, o_low);
  group.o.AddForward(attended, o_low, stream);

  const at::Tensor mlp = Rows(place.mlp_input, rows);
  ops_->RmsNormForward(stream, at::Tensor(), layer.post_attention_norm, eps, Columns(mlp, hidden),
                       Rows(place.mlp_rstd, rows).squeeze(1));
  Low(group.gate_up, Columns(mlp, hidden), fewer, mlp.narrow(1, hidden, group.gate_up.border()));
  const at::Tensor gate_up = Columns(Rows(place.gate_up, rows), group.gate_up.out());
  group.gate_up.Forward(mlp, gate_up);

  const int64_t width = group.down.in();
  const at::Tensor activation = Columns(Rows(layout_.activation, rows), width + group.down.border());
  // The activation is made again in the backward pass; its narrow product is kept.
  at::Tensor down_low = Rows(place.down_low, rows);
  if (MultipliesInGlu(group.down.rank())) {
    ops_->GluForwardWithAdapter(kernels::Activation::kSilu, gate_up, group.down.A(), DropoutOf(group.down, rows, fewer),
                                Columns(activation, width), Columns(down_low, group.down.rank()));
  } else {
    ops_->GluForward(kernels::Activation::kSilu, gate_up, Columns(activation, width));
    Low(group.down, Columns(activation, width), fewer, down_low);
  }
  activation.narrow(1, width, group.down.border()).copy_(down_low);
  group.down.AddForward(activation, stream);
}

void PlannedStep::Head(const Micro& micro) {
  const at::Tensor head = model_.Parts().head, labels = inputs_.Labels(micro.learnt);
  const at::Tensor normed = Rows(layout_.final_normed, micro.learnt);
  const at::Tensor d_normed = arena_.View(layout_.d_normed, micro.learnt, normed.size(1));
  const at::Tensor losses = Rows(layout_.losses, micro.learnt).squeeze(1);
  for (int64_t begin = 0; begin < micro.learnt; begin += loss_rows_) {
    const int64_t count = std::min(loss_rows_, micro.learnt - begin);
    at::Tensor logits = Rows(layout_.logits, count);
    at::mm_out(logits, normed.narrow(0, begin, count), head.t());
    ops_->CrossEntropyInPlace(logits, labels.narrow(0, begin, count), inputs_.Scale(),
                              model_.architecture().final_logit_soft_cap, losses.narrow(0, begin, count));
    at::Tensor d = d_normed.narrow(0, begin, count);
    at::mm_out(d, logits, head);
    if (full()) AddProduct(GradOf(head), logits, normed.narrow(0, begin, count));
  }
  at::sum_out(loss_, losses, at::kDouble);
}

}  // namespace studio::planned
