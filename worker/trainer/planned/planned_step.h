// The training step with a schedule of its own, of adapters or of every weight: forward and backward pass written out,
// over buffers that were laid out before step 1. The same arithmetic as CausalLm::AccumulateGradients, which stays as
// the reference and for what applies.h names.
//
//   PlannedStep step(model, /*max_tokens=*/16384, kernels::MakeAtenOperations());   // allocates everything
//   at::Tensor loss_sum;                       // on the device
//   for (const Batch& micro : micro_batches) loss_sum = sum of step.AccumulateGradients(micro, 1.0 / valid_tokens);
//
// What makes it faster: adapters are multiplied within the frozen products (bordered.h); the residual stream is one
// buffer that products add to; a norm's gradient is made from its output; rope, SwiGLU and cross entropy work in place;
// no gradient goes further down than the first adapter; where every weight is trained, its gradient is a product
// straight into the optimizer's flat buffer (weight_gradients.h); nothing waits for the device.
//
// One thread at a time. The model outlives it and must not be moved or trained by another schedule in between the
// micro batches of a step. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <memory>
#include <utility>
#include <vector>

#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/model/dropout.h"
#include "worker/trainer/planned/arena.h"
#include "worker/trainer/planned/attention.h"
#include "worker/trainer/planned/bordered.h"
#include "worker/trainer/planned/inputs.h"
#include "worker/trainer/planned/layout.h"
#include "worker/trainer/planned/measured_attention.h"
#include "worker/trainer/planned/replays.h"

namespace studio::planned {

// The layout's input for a model whose frozen matrices have borders (ModelOptions::bordered), or all of whose weights
// are trained.
LayoutInput LayoutInputOf(CausalLm& model, int64_t max_tokens, int64_t loss_rows);

class PlannedStep {
 public:
  struct Options {
    // Of logits that exist at once; the product behind them wants about 2,048 on an H100.
    int64_t loss_rows = 2048;
    // Micro batches whose shape comes again are recorded and replayed (replays.h).
    bool record = true;
    // Chooses the attention of micro batches of max_tokens. Null: the fixed rule (ChooseAttention).
    std::shared_ptr<MeasuredAttention> measured_attention = nullptr;
  };
  // `max_tokens`: of the largest micro batch.
  PlannedStep(CausalLm& model, int64_t max_tokens, std::shared_ptr<const kernels::Operations> ops,
              const Options& options);
  PlannedStep(CausalLm& model, int64_t max_tokens, std::shared_ptr<const kernels::Operations> ops)
      : PlannedStep(model, max_tokens, std::move(ops), Options()) {}

  // The sum of token losses, a fp64 scalar on the device that is not waited for; its gradient times `scale` is added to
  // every trained parameter's grad().
  at::Tensor AccumulateGradients(const Batch& batch, double scale);

  // Brings the adapters' copies up to date after an optimizer's step. AccumulateGradients does it where it is due;
  // called as soon as the step is queued, the device need not wait for it.
  void Refresh();

  const Layout& layout() const { return layout_; }
  const kernels::Operations& operations() const { return *ops_; }
  const Replays& replays() const { return replays_; }

 private:
  struct LayerGroups {
    Bordered qkv, o, gate_up, down;
  };
  // One micro batch on its way. All but `saved` is the same for each of one MicroShape.
  struct Micro {
    PassPtr pass;
    AttentionKind attention = AttentionKind::kReference;
    at::Tensor rows;  // behind the last attention only these go on; undefined: all
    int64_t tokens = 0;
    int64_t learnt = 0;
    std::vector<AttentionSaved> saved;
  };

  // The inputs' loss and gradients: what is recorded. Throughout, nothing waits for the device.
  void Compute(const Micro& shape);

  // forward.cc
  void Forward(Micro& micro);
  void ForwardLayer(size_t index, Micro& micro, at::Tensor& stream);
  // The sum of the losses into loss_; leaves the gradient of the final norm's output in d_normed.
  void Head(const Micro& micro);

  // backward.cc
  void Backward(Micro& micro);
  void BackwardMlp(size_t index, const Micro& micro, int64_t rows);
  void BackwardAttention(size_t index, Micro& micro, int64_t rows);
  // Whether rows without a label reach no loss behind this layer's attention and are left out there.
  bool Fewer(size_t layer, const Micro& micro) const { return layer + 1 == groups_.size() && micro.rows.defined(); }

  // adapters.cc: one group's adapters, with the dropout of their input where the job asks for it. `fewer`: rows are
  // those that have a label.
  void Low(const Bordered& group, const at::Tensor& x, bool fewer, at::Tensor low) const;
  // dx of a group, given dy [T, out] | d_low [T, border].
  void InputGradient(const Bordered& group, const at::Tensor& bordered_dy, bool fewer, at::Tensor dx) const;
  // What the gradients of its A and of its B are made of, to be added together.
  using AdapterGradients = std::vector<kernels::AdapterGradient>;
  void GradientsOfA(const Bordered& group, const at::Tensor& x, const at::Tensor& d_low, bool fewer,
                    AdapterGradients& gradients) const;
  static void GradientsOfB(const Bordered& group, const at::Tensor& low, const at::Tensor& dy,
                           AdapterGradients& gradients);
  // Of its members' inputs; without ids where nothing is dropped.
  AdapterDropout DropoutOf(const Bordered& group, int64_t rows, bool fewer) const;
  bool drops() const { return model_.options().lora && model_.options().lora->dropout > 0; }
  // Spreads d_normed (attention's output) and d_stream from the labelled rows to all.
  void Spread(const Micro& micro);
  // Adapters of this rank are multiplied inside SwiGLU's kernels, without a pass of their own over memory: up to what a
  // tensor core takes in one go. (The reference does it the same way, so that tests on a CPU come here.)
  bool MultipliesInGlu(int64_t rank) const {
    return rank > 0 && rank <= 16 && rank % 2 == 0 &&
           (!model_.options().device.is_cuda() || model_.options().compute_dtype == at::kBFloat16);
  }
  // SwiGLU's backward pass; the gradients of the adapters that touch it are made in it or left to `gradients`.
  // `d_activation` is spent.
  void BackwardGlu(size_t index, const at::Tensor& d_activation, const at::Tensor& d_gate_up,
                   const at::Tensor& gate_up_low, const at::Tensor& d_down_low, bool fewer,
                   AdapterGradients& gradients);
  // Gradients that have moved: recordings would write where they were.
  void DropStaleRecordings();
  // Every weight is trained, not adapters.
  bool full() const { return !model_.options().lora; }
  // fp32 sums of this micro batch, [2 layers + 1, hidden].
  at::Tensor NormGradients() const { return Rows(layout_.norm_gradients, layout_.norm_gradients.rows); }
  // One of them; undefined where norms are not trained.
  at::Tensor NormGradient(size_t norm) const;
  // Below the first adapter nothing needs a gradient.
  bool Needed(size_t layer, int group) const {
    return layer > first_layer_ || (layer == first_layer_ && group >= first_group_);
  }

  at::Tensor Rows(const Matrix& matrix, int64_t rows) const { return arena_.Rows(matrix, rows); }

  CausalLm& model_;
  std::shared_ptr<const kernels::Operations> ops_;
  const int64_t loss_rows_;
  const std::shared_ptr<MeasuredAttention> measured_attention_;
  std::vector<LayerGroups> groups_;
  const Layout layout_;
  Arena arena_;
  Inputs inputs_;
  // [] fp64 on the device: the last micro batch's.
  at::Tensor loss_;
  // Of the first adapter: its layer, and its group there (0: qkv, 1: o, 2: gate_up, 3: down).
  size_t first_layer_ = 0;
  int first_group_ = 0;
  // Adapters into their borders.
  std::vector<kernels::ScaledCopy> copies_;
  // Where the gradients lay when the recordings were made.
  std::vector<const void*> grads_;
  // Refers to all of the above.
  Replays replays_;
};

}  // namespace studio::planned
