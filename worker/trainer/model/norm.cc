#include "worker/trainer/model/norm.h"

#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "worker/trainer/libtorch/operations.h"
#include "worker/trainer/model/cpu_kernels.h"
#include "worker/trainer/model/dispatch.h"

namespace studio {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// {residual, normed, rstd}; `delta` may be undefined.
std::tuple<at::Tensor, at::Tensor, at::Tensor> Forward(const at::Tensor& x, const at::Tensor& delta,
                                                       const at::Tensor& weight, double eps) {
  const at::Tensor scale = weight.to(x.scalar_type());
  if (!HasCpuKernels(x)) {
    const at::Tensor residual = delta.defined() ? at::add(x, delta) : x;
    auto [normed, rstd] = libtorch::FusedRmsNorm(residual, scale, eps);
    return {residual, normed, rstd};
  }
  const at::Tensor residual = delta.defined() ? at::empty_like(x) : x;
  const at::Tensor normed = at::empty_like(x);
  const at::Tensor rstd = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
  DispatchCpu(x, [&]<typename T>() {
    cpu::AddRmsNorm<T>(Data<T>(x), delta.defined() ? Data<T>(delta) : nullptr, Data<T>(scale), static_cast<float>(eps),
                       x.size(0), x.size(1), delta.defined() ? Data<T>(residual) : nullptr, Data<T>(normed),
                       rstd.data_ptr<float>());
  });
  return {residual, normed, rstd};
}

// {d_x, d_weight}.
std::pair<at::Tensor, at::Tensor> Backward(const at::Tensor& d_normed, const at::Tensor& d_residual,
                                           const at::Tensor& residual, const at::Tensor& weight, const at::Tensor& rstd,
                                           bool weight_grad) {
  const at::Tensor scale = weight.to(residual.scalar_type());
  if (!HasCpuKernels(residual)) {
    auto [d_x, d_weight] = libtorch::FusedRmsNormBackward(d_normed, residual, rstd, scale, weight_grad);
    if (d_residual.defined()) d_x.add_(d_residual);
    return {d_x, weight_grad ? d_weight.to(weight.scalar_type()) : at::Tensor()};
  }
  const at::Tensor dn = d_normed.contiguous();
  const at::Tensor dr = d_residual.defined() ? d_residual.contiguous() : d_residual;
  const at::Tensor d_x = at::empty_like(residual);
  const at::Tensor d_weight =
      weight_grad ? at::zeros({residual.size(1)}, weight.options().dtype(at::kFloat)) : at::Tensor();
  DispatchCpu(residual, [&]<typename T>() {
    cpu::RmsNormBackward<T>(Data<T>(dn), dr.defined() ? Data<T>(dr) : nullptr, Data<T>(residual), Data<T>(scale),
                            rstd.data_ptr<float>(), residual.size(0), residual.size(1), Data<T>(d_x),
                            weight_grad ? d_weight.data_ptr<float>() : nullptr);
  });
  return {d_x, d_weight};
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, double eps) {
    auto [residual, normed, rstd] = Forward(x, at::Tensor(), weight, eps);
    ctx->save_for_backward({residual, weight, rstd});
    return normed;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    auto [d_x, d_weight] = Backward(grads[0], at::Tensor(), saved[0], saved[1], saved[2], ctx->needs_input_grad(1));
    return {d_x, d_weight, at::Tensor()};
  }
};

struct AddRmsNormFunction : torch::autograd::Function<AddRmsNormFunction> {
  static variable_list forward(AutogradContext* ctx, const at::Tensor& x, const at::Tensor& delta,
                               const at::Tensor& weight, double eps) {
    auto [residual, normed, rstd] = Forward(x, delta, weight, eps);
    ctx->save_for_backward({residual, weight, rstd});
    ctx->set_materialize_grads(false);
    return {residual, normed};
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    if (!grads[1].defined()) return {grads[0], grads[0], at::Tensor(), at::Tensor()};
    auto [d_x, d_weight] = Backward(grads[1], grads[0], saved[0], saved[1], saved[2], ctx->needs_input_grad(2));
    return {d_x, d_x, d_weight, at::Tensor()};
  }
};

}  // namespace

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return RmsNormFunction::apply(x, weight, eps);
}

std::pair<at::Tensor, at::Tensor> AddRmsNorm(const at::Tensor& x, const at::Tensor& delta, const at::Tensor& weight,
                                             double eps) {
  const variable_list both = AddRmsNormFunction::apply(x, delta, weight, eps);
  return {both[0], both[1]};
}

}  // namespace studio
