#include "worker/trainer/planned/layout.h"

#include <algorithm>

#include "worker/trainer/planned/placement.h"

namespace studio::planned {
namespace {

enum Phase { kForward, kHead, kBackward };

// Takes matrices in, places them all, and writes their offsets back.
class Planner {
 public:
  explicit Planner(int64_t element_bytes) : element_bytes_(element_bytes) {}

  void Add(Matrix& matrix, int64_t rows, int64_t width, Phase first, Phase last) {
    matrix.rows = rows;
    matrix.width = width;
    matrices_.push_back(&matrix);
    intervals_.push_back({rows * width * (matrix.fp32 ? 4 : element_bytes_), first, last});
  }
  void AddFp32(Matrix& matrix, int64_t rows, int64_t width, Phase first, Phase last) {
    matrix.fp32 = true;
    Add(matrix, rows, width, first, last);
  }
  int64_t PlaceAll() {
    const int64_t total = Place(intervals_);
    for (size_t i = 0; i < matrices_.size(); ++i) matrices_[i]->offset = intervals_[i].offset;
    return total;
  }

 private:
  int64_t element_bytes_;
  std::vector<Matrix*> matrices_;
  std::vector<Interval> intervals_;
};

}  // namespace

Layout Plan(const LayoutInput& input) {
  const int64_t rows = input.max_tokens;
  Layout layout;
  layout.layers.resize(input.layers.size());
  Planner planner(input.element_bytes);
  int64_t attended = 0, intermediate = 0, qkv = 0, stream_border = 0, down_border = 0;
  for (size_t i = 0; i < input.layers.size(); ++i) {
    const LayoutInput::Layer& shape = input.layers[i];
    Layout::Layer& layer = layout.layers[i];
    planner.Add(layer.attention_input, rows, shape.qkv.in + shape.qkv.border, kForward, kBackward);
    planner.AddFp32(layer.attention_rstd, rows, 1, kForward, kBackward);
    planner.Add(layer.qkv, rows, shape.qkv.out, kForward, kBackward);
    planner.Add(layer.o_low, rows, shape.o.border, kForward, kBackward);
    planner.Add(layer.mlp_input, rows, shape.gate_up.in + shape.gate_up.border, kForward, kBackward);
    planner.AddFp32(layer.mlp_rstd, rows, 1, kForward, kBackward);
    planner.Add(layer.gate_up, rows, shape.gate_up.out + shape.gate_up.border, kForward, kBackward);
    planner.Add(layer.down_low, rows, shape.down.border, kForward, kBackward);
    attended = std::max(attended, shape.o.in);
    intermediate = std::max(intermediate, shape.down.in);
    qkv = std::max(qkv, shape.qkv.out + shape.qkv.border);
    stream_border = std::max({stream_border, shape.o.border, shape.down.border});
    down_border = std::max(down_border, shape.down.border);
  }
  planner.Add(layout.stream, rows, input.hidden, kForward, kForward);
  planner.Add(layout.activation, rows, intermediate + down_border, kForward, kForward);
  planner.Add(layout.attended_rows, rows, attended, kForward, kBackward);
  planner.Add(layout.final_normed, rows, input.hidden, kForward, kBackward);
  planner.AddFp32(layout.final_rstd, rows, 1, kForward, kBackward);
  planner.Add(layout.logits, std::min(rows, input.loss_rows), input.vocab, kHead, kHead);
  planner.AddFp32(layout.losses, rows, 1, kHead, kHead);
  planner.Add(layout.d_stream, rows, input.hidden + stream_border, kBackward, kBackward);
  // In the forward pass it holds the last layer's stream at the rows that have a label.
  planner.Add(layout.d_normed, rows, std::max(input.hidden, attended), kForward, kBackward);
  planner.Add(layout.d_activation, rows, intermediate, kBackward, kBackward);
  planner.Add(layout.d_qkv, rows, qkv, kBackward, kBackward);
  if (input.full) {
    const int64_t norms = 2 * static_cast<int64_t>(input.layers.size()) + 1;
    planner.AddFp32(layout.norm_gradients, norms, input.hidden, kBackward, kBackward);
  }
  layout.total_bytes = planner.PlaceAll();
  return layout;
}

int64_t KeptByAttentionBytes(const LayoutInput& input, int64_t heads) {
  int64_t bytes = 0;
  for (const LayoutInput::Layer& layer : input.layers) {
    bytes += input.max_tokens * (layer.o.in * input.element_bytes + heads * 4);
  }
  return bytes;
}

}  // namespace studio::planned
