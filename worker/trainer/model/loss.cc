#include "worker/trainer/model/loss.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "worker/trainer/model/cpu_kernels.h"
#include "worker/trainer/model/dispatch.h"

namespace studio {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Losses of a chunk [rows] fp32; where `gradient`, `logits` becomes the gradient.
at::Tensor ChunkLosses(at::Tensor& logits, const at::Tensor& labels, double soft_cap, bool gradient) {
  if (HasCpuKernels(logits)) {
    at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
    DispatchCpu(logits, [&]<typename T>() {
      cpu::CrossEntropy<T>(Data<T>(logits), labels.data_ptr<int64_t>(), logits.size(0), logits.size(1),
                           static_cast<float>(soft_cap), losses.data_ptr<float>(), gradient);
    });
    return losses;
  }
  const at::Tensor wide = SoftCapped(logits.to(at::kFloat), soft_cap);
  const at::Tensor log_sum = at::logsumexp(wide, 1, /*keepdim=*/true);
  const at::Tensor column = labels.unsqueeze(1);
  at::Tensor losses = (log_sum - at::gather(wide, 1, column)).squeeze(1);
  if (gradient) {
    const at::Tensor slope = soft_cap > 0 ? 1 - (wide / soft_cap).square() : at::Tensor();
    at::Tensor probability = wide.is_same(logits) ? wide - log_sum : wide.sub_(log_sum);
    probability.exp_();
    probability.scatter_add_(1, column, at::ones({1, 1}, probability.options()).neg().expand_as(column));
    logits.copy_(slope.defined() ? probability.mul_(slope) : probability);
  }
  return losses;
}

struct HeadLossFunction : torch::autograd::Function<HeadLossFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& hidden, const at::Tensor& weight,
                            const at::Tensor& labels, double soft_cap, int64_t chunk_rows, bool hidden_grad,
                            bool weight_grad) {
    const at::Tensor compute = weight.detach().to(hidden.scalar_type());
    const int64_t rows = hidden.size(0);
    at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
    at::Tensor d_hidden = hidden_grad ? at::empty_like(hidden) : at::Tensor();
    at::Tensor d_weight = weight_grad ? at::zeros(weight.sizes(), weight.options()) : at::Tensor();
    for (int64_t begin = 0; begin < rows; begin += chunk_rows) {
      const int64_t count = std::min(chunk_rows, rows - begin);
      const at::Tensor part = hidden.narrow(0, begin, count);
      at::Tensor logits = at::linear(part, compute);
      sum += ChunkLosses(logits, labels.narrow(0, begin, count), soft_cap, hidden_grad || weight_grad).sum(at::kDouble);
      if (hidden_grad) {
        at::Tensor out = d_hidden.narrow(0, begin, count);
        at::mm_out(out, logits, compute);
      }
      if (weight_grad) {
        const at::Tensor d = at::mm(logits.t(), part);
        d_weight.add_(d);
      }
    }
    ctx->save_for_backward({d_hidden, d_weight});
    return sum;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto times = [&](const at::Tensor& x) { return x.defined() ? x * grads[0].to(x.scalar_type()) : x; };
    return {times(saved[0]), times(saved[1]), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor SoftCapped(const at::Tensor& logits, double soft_cap) {
  return soft_cap > 0 ? (logits / soft_cap).tanh_().mul_(soft_cap) : logits;
}

at::Tensor HeadLoss(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& labels, double soft_cap,
                    int64_t chunk_rows) {
  const bool grad = at::GradMode::is_enabled();
  return HeadLossFunction::apply(hidden, weight, labels.contiguous(), soft_cap, chunk_rows,
                                 grad && hidden.requires_grad(), grad && weight.requires_grad());
}

}  // namespace studio
