#include "worker/trainer/kernels/aten_operations.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_unique.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <cmath>

#include "worker/trainer/kernels/shapes.h"
#include "worker/trainer/libtorch/operations.h"
#include "worker/trainer/model/counter_random.h"

namespace studio::kernels {
namespace {

at::Tensor Wide(const at::Tensor& x) { return x.to(at::kFloat); }

// See kSmallestNormWeight.
at::Tensor NormWeight(const at::Tensor& weight) {
  const at::Tensor wide = Wide(weight);
  return at::where(wide.abs() < kSmallestNormWeight, at::full_like(wide, kSmallestNormWeight), wide);
}

// [.., heads, head_dim] fp32, turned by angles that broadcast against [.., heads, head_dim / 2].
at::Tensor Rotated(const at::Tensor& heads, const at::Tensor& cosine, const at::Tensor& sine) {
  const int64_t half = heads.size(-1) / 2;
  const at::Tensor a = heads.narrow(-1, 0, half), b = heads.narrow(-1, half, half);
  return at::cat({a * cosine - b * sine, b * cosine + a * sine}, -1);
}

at::Tensor Activate(Activation activation, const at::Tensor& gate) {
  return activation == Activation::kSilu ? at::silu(gate) : at::gelu(gate, "tanh");
}
at::Tensor ActivateBackward(Activation activation, const at::Tensor& d, const at::Tensor& gate) {
  return activation == Activation::kSilu ? at::silu_backward(d, gate) : at::gelu_backward(d, gate, "tanh");
}

// a^T b in fp32.
at::Tensor Product(const at::Tensor& a, const at::Tensor& b) {
  if (!a.is_cuda() || a.scalar_type() == at::kFloat) return at::mm(Wide(a).t(), Wide(b));
  at::Tensor product = at::empty({a.size(1), b.size(1)}, a.options().dtype(at::kFloat));
  libtorch::ProductInFloat(a.t(), b, product);
  return product;
}

// to's row which[t] += rows' row t, in the order of t.
void AddRows(const at::Tensor& to, const at::Tensor& which, const at::Tensor& rows) {
  // Each adds with atomics on the other kind of device, in any order.
  if (to.is_cpu()) {
    at::Tensor(to).index_add_(0, which, rows);
  } else {
    at::Tensor(to).index_put_({which}, rows, /*accumulate=*/true);
  }
}

// `part` (in fp32) after the step; as it is where the norm is not finite.
AdamWPart Updated(const AdamWPart& part, const at::Tensor& sum_of_squares, const AdamWOptions& options,
                  double learning_rate, int64_t step) {
  const auto& [weights, grad, exp_avg, exp_avg_sq, decay] = part;
  const at::Tensor finite = at::isfinite(sum_of_squares);
  at::Tensor g = grad;
  if (options.max_grad_norm > 0) {
    g = grad * at::clamp(options.max_grad_norm / (sum_of_squares.sqrt() + 1e-6), std::nullopt, 1.0);
  }
  const at::Tensor m = exp_avg + (g - exp_avg) * (1 - options.beta1);
  const at::Tensor v = exp_avg_sq * options.beta2 + g * g * (1 - options.beta2);
  const double correction1 = 1 - std::pow(options.beta1, step), correction2 = 1 - std::pow(options.beta2, step);
  const at::Tensor denominator = v.sqrt() / std::sqrt(correction2) + options.epsilon;
  const at::Tensor w = weights * (1 - (decay ? learning_rate * options.weight_decay : 0)) -
                       m / denominator * (learning_rate / correction1);
  return {at::where(finite, w, weights), grad, at::where(finite, m, exp_avg), at::where(finite, v, exp_avg_sq), decay};
}

// [3, count] int32 on the CPU: 16 random bits each for the weights, exp_avg and exp_avg_sq.
at::Tensor ChanceBits(uint64_t key, uint64_t first, int64_t count) {
  at::Tensor bits = at::empty({3, count}, at::kInt);
  int32_t* const out = bits.data_ptr<int32_t>();
  at::parallel_for(0, count, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t random = RandomBits(key, first + static_cast<uint64_t>(i));
      for (int64_t which = 0; which < 3; ++which) {
        out[which * count + i] = static_cast<int32_t>(random >> (16 * which) & 0xffff);
      }
    }
  });
  return bits;
}

// x fp32 to bf16: up where the 16 bits that are cut off, with the random ones added, carry over.
at::Tensor RoundedByChance(const at::Tensor& x, const at::Tensor& bits) {
  const at::Tensor rounded = (x.view(at::kInt) + bits).bitwise_and_(-65536).view(at::kFloat);
  return at::where(at::isfinite(x), rounded, x).to(at::kBFloat16);
}

class AtenOperations final : public Operations {
 public:
  std::string name() const override { return "ATen"; }

  void RmsNormForward(const at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight, double eps,
                      const at::Tensor& normed, const at::Tensor& rstd) const override {
    at::NoGradGuard no_grad;
    CheckRmsNormForward(residual, delta, weight, normed, rstd);
    if (delta.defined()) residual.copy_(Wide(residual) + Wide(delta));
    const at::Tensor wide = Wide(residual);
    rstd.copy_((wide.square().mean(1) + eps).rsqrt());
    const at::Tensor x_hat = Wide((wide * rstd.unsqueeze(1)).to(residual.scalar_type()));
    normed.copy_(x_hat * NormWeight(weight));
  }

  void RmsNormBackward(const at::Tensor& d_normed, const at::Tensor& normed, const at::Tensor& weight,
                       const at::Tensor& rstd, bool accumulate, const at::Tensor& d_residual,
                       const at::Tensor& d_weight) const override {
    at::NoGradGuard no_grad;
    CheckRmsNormBackward(d_normed, normed, weight, rstd, d_residual, d_weight);
    const at::Tensor scale = NormWeight(weight), dn = Wide(d_normed), n = Wide(normed);
    const at::Tensor x_hat = n / scale;
    if (d_weight.defined()) d_weight.add_((dn * x_hat).sum(0));
    at::Tensor d = rstd.unsqueeze(1) * (dn * scale - x_hat * (dn * n).mean(1, /*keepdim=*/true));
    if (accumulate) d.add_(d_residual);
    d_residual.copy_(d);
  }

  void RopeInPlace(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, int64_t heads,
                   int64_t head_dim, int sign) const override {
    at::NoGradGuard no_grad;
    CheckRope(qkv, cosine, sine, heads, head_dim);
    const at::Tensor turned = qkv.narrow(1, 0, heads * head_dim).view({qkv.size(0), heads, head_dim});
    turned.copy_(Rotated(Wide(turned), cosine.unsqueeze(1), sine.unsqueeze(1) * sign));
  }

  void RopeBackwardGather(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv, const at::Tensor& cosine,
                          const at::Tensor& sine, const at::Tensor& d_qkv) const override {
    at::NoGradGuard no_grad;
    CheckRopeBackward(dq, dk, dv, cosine, sine, d_qkv);
    int64_t column = 0;
    const auto put = [&](const at::Tensor& heads, bool turn) {  // [B, heads, S, head_dim]
      const int64_t width = heads.size(1) * heads.size(3);
      at::Tensor rows = Wide(heads).transpose(1, 2).flatten(0, 1);  // [T, heads, head_dim]
      if (turn) rows = Rotated(rows, cosine.unsqueeze(1), -sine.unsqueeze(1));
      d_qkv.narrow(1, column, width).copy_(rows.flatten(1, 2));
      column += width;
    };
    put(dq, true);
    put(dk, true);
    put(dv, false);
  }

  void GluForward(Activation activation, const at::Tensor& gate_up, const at::Tensor& out) const override {
    at::NoGradGuard no_grad;
    CheckGluForward(gate_up, out);
    const int64_t width = out.size(1);
    out.copy_(Activate(activation, Wide(gate_up.narrow(1, 0, width))) * Wide(gate_up.narrow(1, width, width)));
  }

  void GluForwardWithAdapter(Activation activation, const at::Tensor& gate_up, const at::Tensor& a,
                             const AdapterDropout& dropout, const at::Tensor& out,
                             const at::Tensor& low) const override {
    at::NoGradGuard no_grad;
    CheckGluAdapter(gate_up, a, out, low);
    GluForward(activation, gate_up, out);
    low.copy_(dropout.ids.defined() ? studio::DroppedLow(out, a, dropout) : at::mm(out, a.t()));
  }

  void GluBackward(Activation activation, const at::Tensor& d_out, const at::Tensor& gate_up,
                   const at::Tensor& out) const override {
    at::NoGradGuard no_grad;
    CheckGluBackward(d_out, gate_up, out);
    const int64_t width = d_out.size(1);
    const at::Tensor gate = Wide(gate_up.narrow(1, 0, width)), up = Wide(gate_up.narrow(1, width, width));
    const at::Tensor activated = Activate(activation, gate), d = Wide(d_out);
    const at::Tensor again = activated * up, d_up = d * activated;
    gate_up.narrow(1, 0, width).copy_(ActivateBackward(activation, d * up, gate));
    gate_up.narrow(1, width, width).copy_(d_up);
    if (out.defined()) out.copy_(again);
  }

  void GluBackwardWithAdapters(Activation activation, const at::Tensor& d_out, const at::Tensor& gate_up,
                               const GluAdapters& adapters) const override {
    at::NoGradGuard no_grad;
    CheckGluAdapters(d_out, gate_up, adapters);
    const at::Tensor out = at::empty(d_out.sizes(), d_out.options());
    GluBackward(activation, d_out, gate_up, out);
    const int64_t width = d_out.size(1);
    const bool drops = adapters.dropout.ids.defined();
    adapters.down_a.add_(Product(adapters.down_low, drops ? Dropped(out, adapters.dropout, 0) : out),
                         drops ? adapters.dropout.Kept() : 1);
    adapters.gate_b.add_(Product(gate_up.narrow(1, 0, width), adapters.gate_low), adapters.b_scale);
    adapters.up_b.add_(Product(gate_up.narrow(1, width, width), adapters.up_low), adapters.b_scale);
  }

  void DroppedLow(const at::Tensor& x, const at::Tensor& a, const AdapterDropout& dropout,
                  const at::Tensor& low) const override {
    at::NoGradGuard no_grad;
    CheckDropped(x, a, low, dropout);
    low.narrow(1, 0, a.size(0)).copy_(studio::DroppedLow(x, a, dropout));
    low.narrow(1, a.size(0), low.size(1) - a.size(0)).zero_();
  }

  void AddAdapterGradients(const std::vector<AdapterGradient>& gradients) const override {
    at::NoGradGuard no_grad;
    for (const AdapterGradient& gradient : gradients) {
      CheckAdapterGradient(gradient);
      const auto& [narrow, wide, grad, scale, transposed, dropout, which] = gradient;
      const bool drops = dropout.ids.defined();
      const at::Tensor product = Product(narrow, drops ? Dropped(wide, dropout, which) : wide);
      grad.add_(transposed ? product.t() : product, drops ? scale * dropout.Kept() : scale);
    }
  }

  void AddDroppedBackward(const at::Tensor& d_low, const at::Tensor& a, const AdapterDropout& dropout,
                          const at::Tensor& dx) const override {
    at::NoGradGuard no_grad;
    CheckDropped(dx, a, d_low, dropout);
    studio::AddDroppedBackward(d_low, a, dropout, dx);
  }

  void CrossEntropyInPlace(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& scale, double soft_cap,
                           const at::Tensor& losses) const override {
    at::NoGradGuard no_grad;
    CheckCrossEntropy(logits, labels, scale, losses);
    const at::Tensor column = labels.unsqueeze(1), raw = Wide(logits);
    const at::Tensor wide = soft_cap > 0 ? (raw / soft_cap).tanh_().mul_(soft_cap) : raw;
    const at::Tensor log_sum = at::logsumexp(wide, 1, /*keepdim=*/true);
    losses.copy_((log_sum - at::gather(wide, 1, column)).squeeze(1));
    const at::Tensor softmax = (wide - log_sum).exp_();
    softmax.scatter_add_(1, column, at::ones({1, 1}, softmax.options()).neg().expand_as(column));
    if (soft_cap > 0) softmax.mul_(1 - (wide / soft_cap).square());
    logits.copy_(softmax.mul_(scale));
  }

  void EmbeddingGradient(const at::Tensor& d_hidden, const at::Tensor& tokens, const at::Tensor& grad) const override {
    at::NoGradGuard no_grad;
    CheckEmbeddingGradient(d_hidden, tokens, grad);
    if (grad.scalar_type() != at::kFloat) {
      // The rows that occur, each summed in fp32 from what was there.
      const auto [rows, which] = at::_unique(tokens, /*sorted=*/true, /*return_inverse=*/true);
      const at::Tensor wide = Wide(at::index_select(grad, 0, rows));
      AddRows(wide, which, Wide(d_hidden));
      at::Tensor(grad).index_copy_(0, rows, wide.to(grad.scalar_type()));
    } else {
      AddRows(grad, tokens, Wide(d_hidden));
    }
  }

  void SumOfSquares(const at::Tensor& flat, const at::Tensor& sum) const override {
    at::NoGradGuard no_grad;
    CheckSumOfSquares(flat, sum);
    // Sums go pairwise, norms and dot products in a row. By parts, for the memory of the squares.
    const int64_t most = int64_t{1} << 24;
    at::Tensor all = at::zeros({}, sum.options().dtype(at::kDouble));
    for (int64_t begin = 0; begin < flat.size(0); begin += most) {
      all += Wide(flat.narrow(0, begin, std::min(most, flat.size(0) - begin))).square().sum().to(at::kDouble);
    }
    sum.copy_(all);
  }

  void AdamWStep(const std::vector<AdamWPart>& parts, const at::Tensor& sum_of_squares, const AdamWOptions& options,
                 double learning_rate, int64_t step) const override {
    at::NoGradGuard no_grad;
    for (const AdamWPart& part : parts) {
      CheckAdamW(part, at::kFloat, sum_of_squares, step);
      const AdamWPart updated = Updated(part, sum_of_squares, options, learning_rate, step);
      part.weights.copy_(updated.weights);
      part.exp_avg.copy_(updated.exp_avg);
      part.exp_avg_sq.copy_(updated.exp_avg_sq);
    }
  }

  void AdamWStepByChance(const AdamWPart& part, const at::Tensor& sum_of_squares, const AdamWOptions& options,
                         double learning_rate, int64_t step, uint64_t key, uint64_t first) const override {
    at::NoGradGuard no_grad;
    CheckAdamW(part, at::kBFloat16, sum_of_squares, step);
    const at::Tensor finite = at::isfinite(sum_of_squares);
    const int64_t most = int64_t{1} << 22;
    for (int64_t begin = 0; begin < part.weights.size(0); begin += most) {
      const int64_t count = std::min(most, part.weights.size(0) - begin);
      const auto some = [&](const at::Tensor& x) { return x.narrow(0, begin, count); };
      const AdamWPart updated = Updated({Wide(some(part.weights)), Wide(some(part.grad)), Wide(some(part.exp_avg)),
                                         Wide(some(part.exp_avg_sq)), part.decay},
                                        sum_of_squares, options, learning_rate, step);
      const at::Tensor bits = ChanceBits(key, first + static_cast<uint64_t>(begin), count).to(part.weights.device());
      const std::pair<at::Tensor, at::Tensor> pairs[] = {{some(part.weights), updated.weights},
                                                         {some(part.exp_avg), updated.exp_avg},
                                                         {some(part.exp_avg_sq), updated.exp_avg_sq}};
      for (int64_t which = 0; which < 3; ++which) {
        const auto& [to, wide] = pairs[which];
        to.copy_(at::where(finite, RoundedByChance(wide, bits[which]), to));
      }
    }
  }

  void CopyScaled(const std::vector<ScaledCopy>& copies) const override {
    at::NoGradGuard no_grad;
    for (const ScaledCopy& copy : copies) {
      CheckScaledCopy(copy);
      copy.to.copy_(copy.from * static_cast<float>(copy.scale));
    }
  }
};

}  // namespace

std::unique_ptr<Operations> MakeAtenOperations() { return std::make_unique<AtenOperations>(); }

}  // namespace studio::kernels
