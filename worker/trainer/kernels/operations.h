// The element-wise work of a decoder's training step, each operation one pass over memory, over buffers that the caller
// laid out: nothing here allocates what outlives the call. Products and attention are LibTorch's.
//
//   std::unique_ptr<Operations> ops = MakeAtenOperations();              // any device, the reference
//   absl::StatusOr<std::unique_ptr<Operations>> fused = MakeCudaOperations(device);   // our own kernels
//   ops->RmsNormForward(residual, delta, weight, 1e-5, normed, rstd);
//
// Tensors: `compute` is bfloat16 or float, the same for all of one call; arithmetic is fp32 whatever the storage. A 2-d
// tensor may be a view of wider rows: its last dimension is contiguous, stride(0) is free. (CUDA reads 16 bytes at a
// time where addresses and row strides allow, else element by element.) Outputs must not overlap inputs unless said.
// No gradients flow, and version counters do not tell of what is written. Work is queued on the device's current
// stream; nothing waits for it.
//
// An object may be used by several threads. Shapes that do not fit are a bug of the caller: STUDIO_CHECK. Throws what
// LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/trainer/model/dropout.h"

namespace studio::kernels {

enum class Activation {
  kSilu,
  kGeluTanh,  // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
};

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  // Global L2 norm to which gradients are scaled down; 0: no clipping.
  double max_grad_norm = 0;
};

// One parameter of an optimizer's step: four contiguous [n] of one type.
struct AdamWPart {
  at::Tensor weights, grad, exp_avg, exp_avg_sq;
  // AdamWOptions' weight_decay applies.
  bool decay = true;
};

// The adapters around a gated activation: what the backward pass multiplies its results by, and where the products go.
struct GluAdapters {
  at::Tensor down_low;          // [T, r] gradient of the down projection's low-rank activations
  at::Tensor gate_low, up_low;  // [T, r] gate's and up's low-rank activations
  at::Tensor down_a;            // [r, M] fp32 += down_low^T drop(out)
  at::Tensor gate_b, up_b;      // [M, r] fp32 contiguous += b_scale * d_gate^T gate_low, d_up^T up_low
  double b_scale = 1;
  // Of the down projection's input; undefined ids: none.
  AdapterDropout dropout = {};
};

// The gradient of one factor of an adapter: of A from d_low and x, of B, transposed, from low and dy.
struct AdapterGradient {
  at::Tensor narrow, wide;  // [T, r], [T, n] of compute
  at::Tensor grad;          // fp32 contiguous, [r, n] or, transposed, [n, r]
  double scale = 1;
  bool transposed = false;
  // `wide` as this adapter drops it, undefined dropout.ids: whole.
  AdapterDropout dropout = {};
  size_t which = 0;
};

// to [n, m] of compute = scale * from [n, m], fp32 contiguous.
struct ScaledCopy {
  at::Tensor from, to;
  double scale = 1;
};

class Operations {
 public:
  virtual ~Operations() = default;

  // For logs: "ATen", "CUDA sm_90".
  virtual std::string name() const = 0;

  // residual [T, D] += delta [T, D] (undefined: nothing), rounded to compute; rstd [T] fp32 = 1 / sqrt(mean(residual^2)
  // + eps); normed [T, D] = round(residual * rstd) * weight [D], as Transformers rounds (arXiv:1910.07467). A weight
  // nearer to 0 than kSmallestNormWeight counts as that: see RmsNormBackward.
  virtual void RmsNormForward(const at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight, double eps,
                              const at::Tensor& normed, const at::Tensor& rstd) const = 0;

  // From normed and rstd as the forward left them: d_residual [T, D] = or += (`accumulate`)
  //   rstd * (d_normed * weight - x_hat * mean(d_normed * normed)),   x_hat = normed / weight,
  // and d_weight [D] fp32 (undefined: not wanted) += sum over T of d_normed * x_hat, in a fixed order.
  //
  // The residual stream is overwritten layer by layer, while `normed` is kept anyway (it is the next product's input):
  // so x_hat comes from there and costs no memory. A weight of exactly 0 would have erased it; as 2^-60 it keeps all of
  // x_hat's bits (bf16 and fp32 have the exponents for it; fp16 has not, hence no fp16 here) and adds nothing that a
  // sum in fp32 could see.
  virtual void RmsNormBackward(const at::Tensor& d_normed, const at::Tensor& normed, const at::Tensor& weight,
                               const at::Tensor& rstd, bool accumulate, const at::Tensor& d_residual,
                               const at::Tensor& d_weight) const = 0;

  // Turns the first `heads` heads of each row of qkv [T, >= heads * head_dim] in place by the angles of cosine, sine
  // [T, head_dim / 2] fp32 (arXiv:2104.09864, Transformers' halves convention); sign -1 turns back.
  virtual void RopeInPlace(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, int64_t heads,
                           int64_t head_dim, int sign) const = 0;

  // d_qkv [T, (H + 2 KV) * head_dim] = [unrotated dq | unrotated dk | dv]: RopeInPlace's gradient and the
  // concatenation. dq [B, H, S, head_dim], dk and dv [B, KV, S, head_dim], as attention's backward pass returns them:
  // any strides with the last dimension contiguous; T = B * S, sequence by sequence. (Packed [T, H, D]: x.transpose(0,
  // 1).unsqueeze(0).)
  virtual void RopeBackwardGather(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv,
                                  const at::Tensor& cosine, const at::Tensor& sine, const at::Tensor& d_qkv) const = 0;

  // out [T, M] = activation(gate) * up, where a row of gate_up [T, 2 M] is gate, then up (arXiv:2002.05202).
  virtual void GluForward(Activation activation, const at::Tensor& gate_up, const at::Tensor& out) const = 0;

  // GluForward, and low [T, r] = drop(out) a^T, where a [r, M] is the next projection's A and undefined dropout.ids
  // drop nothing, summed in fp32 and rounded once. Ours saves the product's pass over `out` where r is at most 16, in
  // bf16; else the product follows.
  virtual void GluForwardWithAdapter(Activation activation, const at::Tensor& gate_up, const at::Tensor& a,
                                     const AdapterDropout& dropout, const at::Tensor& out,
                                     const at::Tensor& low) const = 0;

  // gate_up becomes its own gradient, given d_out [T, M]; `out` [T, M] (undefined: not wanted) receives the forward's
  // result again, so that no layer needs to keep it. `out` may be d_out's memory.
  virtual void GluBackward(Activation activation, const at::Tensor& d_out, const at::Tensor& gate_up,
                           const at::Tensor& out) const = 0;

  // GluBackward, and the gradients of the adapters' A and B (arXiv:2106.09685) that need its three results: these are
  // multiplied as compute rounds them and added up in fp32, in a fixed order. Ours saves two products' passes over
  // memory and the forward's result where r is even and at most 16, in bf16; else the products follow.
  virtual void GluBackwardWithAdapters(Activation activation, const at::Tensor& d_out, const at::Tensor& gate_up,
                                       const GluAdapters& adapters) const = 0;

  // The products of adapters whose input is dropped (model/dropout.h), n adapters of rank r that read x [T, D], their A
  // below each other: a [n r, D]. Sums are in fp32 and rounded once. Ours draws the masks where the tensor cores take
  // their factors from; for an even r, D in steps of 64, and bf16.
  //
  // low [T, >= n r] = drop(x) a^T, and 0 beyond.
  virtual void DroppedLow(const at::Tensor& x, const at::Tensor& a, const AdapterDropout& dropout,
                          const at::Tensor& low) const = 0;
  // grad += scale * narrow^T wide (or its transpose) for all of them, summed in fp32 in a fixed order. They share T,
  // and the dropout but for its sites. Ours is one launch, two where tokens are many, for even ranks, n in steps of 64,
  // and bf16.
  virtual void AddAdapterGradients(const std::vector<AdapterGradient>& gradients) const = 0;
  // dx [T, D] += the gradient of x: of each adapter d_low a, dropped.
  virtual void AddDroppedBackward(const at::Tensor& d_low, const at::Tensor& a, const AdapterDropout& dropout,
                                  const at::Tensor& dx) const = 0;

  // losses [C] fp32 = log(sum(exp(y))) - y[label], where y is logits or, with a soft_cap above 0, soft_cap *
  // tanh(logits / soft_cap); and logits [C, V] become scale * (softmax(y) - onehot) * dy / dlogits. labels [C] int64,
  // each within [0, V). scale [] fp32 is read on the device: a recorded step takes another each time.
  virtual void CrossEntropyInPlace(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& scale,
                                   double soft_cap, const at::Tensor& losses) const = 0;

  // grad [V, D]: row tokens[t] += d_hidden [T, D]'s row t, in the order of t whatever the parallelism. Summed in fp32;
  // grad is fp32 or, rounded once a call, of compute. tokens [T] int64, each within [0, V).
  virtual void EmbeddingGradient(const at::Tensor& d_hidden, const at::Tensor& tokens,
                                 const at::Tensor& grad) const = 0;

  // sum [] fp32 = sum of the squares of flat [n], of any compute type, in a fixed order.
  virtual void SumOfSquares(const at::Tensor& flat, const at::Tensor& sum) const = 0;

  // Step `step` (from 1) of AdamW (arXiv:1711.05101, algorithm 2) over all `parts`, fp32, with the gradient clipped on
  // the way as torch.nn.utils.clip_grad_norm_ does: grad itself stays. `sum_of_squares` [] fp32 is over all gradients
  // of the step, read on the device. Where it is not finite nothing changes: the caller fails the run when it reads the
  // norm. The same numbers as ClipGradNorm and AdamW of worker/trainer/optim to fp32 rounding. Ours is one launch.
  virtual void AdamWStep(const std::vector<AdamWPart>& parts, const at::Tensor& sum_of_squares,
                         const AdamWOptions& options, double learning_rate, int64_t step) const = 0;

  // The same for one part in bf16: arithmetic in fp32, the results rounded by chance (stochastic rounding,
  // arXiv:1502.02551; for AdamW in bf16 arXiv:2010.06192), since to the nearest a weight would not move by less than
  // 2^-9 of itself, nor exp_avg_sq with beta2 0.999 ever fall. Element i draws RandomBits(key, first + i) of
  // model/counter_random.h: 16 bits each for the weight, exp_avg and exp_avg_sq from the lowest up, so that the same
  // run has the same bits on every device but for fp32 rounding.
  virtual void AdamWStepByChance(const AdamWPart& part, const at::Tensor& sum_of_squares, const AdamWOptions& options,
                                 double learning_rate, int64_t step, uint64_t key, uint64_t first) const = 0;

  // All of them, none overlapping another; ours by one launch.
  virtual void CopyScaled(const std::vector<ScaledCopy>& copies) const = 0;
};

// 2^-60.
inline constexpr float kSmallestNormWeight = 0x1p-60f;

}  // namespace studio::kernels
