#include "worker/trainer/model/layer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "absl/strings/str_cat.h"

namespace studio {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct CheckpointFunction : torch::autograd::Function<CheckpointFunction> {
  struct Holder : torch::CustomClassHolder {
    DecoderLayer* layer = nullptr;
    PassPtr pass;
    double eps = 0;
    bool has_delta = false;
  };

  // `anchor` requires a gradient, so that the backward pass comes here even where the layer's input is a constant.
  static variable_list forward(AutogradContext* ctx, const at::Tensor& residual, const std::optional<at::Tensor>& delta,
                               const at::Tensor& anchor, DecoderLayer* layer, const PassPtr& pass, double eps) {
    const at::Tensor x = delta ? at::add(residual, *delta) : residual;
    const Stream out = layer->Forward({x, at::Tensor()}, pass, eps);
    ctx->save_for_backward({x});
    auto holder = c10::make_intrusive<Holder>();
    holder->layer = layer;
    holder->pass = pass;
    holder->eps = eps;
    holder->has_delta = delta.has_value();
    ctx->saved_data["layer"] = at::IValue::make_capsule(holder);
    return {out.residual, out.delta};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const auto capsule = ctx->saved_data["layer"].toCapsule();
    const Holder& holder = *static_cast<Holder*>(capsule.get());
    const at::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    Stream out;
    {
      at::AutoGradMode grad(true);
      out = holder.layer->Forward({x, at::Tensor()}, holder.pass, holder.eps);
    }
    // Gradients of the layer's weights are added to their grad() here.
    torch::autograd::backward({out.residual, out.delta}, {grads[0], grads[1]});
    return {x.grad(),    holder.has_delta ? x.grad() : at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

LinearMember Member(int64_t layer, const char* name, int64_t out) {
  LinearMember member;
  member.name = absl::StrCat("model.layers.", layer, ".", name);
  member.out = out;
  return member;
}

}  // namespace

DecoderLayer::DecoderLayer(const Architecture& arch, int64_t index)
    : qkv({Member(index, "self_attn.q_proj", arch.q_size()), Member(index, "self_attn.k_proj", arch.kv_size()),
           Member(index, "self_attn.v_proj", arch.kv_size())},
          arch.hidden_size, arch.qkv_bias),
      o({Member(index, "self_attn.o_proj", arch.hidden_size)}, arch.q_size(), arch.o_bias),
      gate_up({Member(index, "mlp.gate_proj", arch.intermediate_size),
               Member(index, "mlp.up_proj", arch.intermediate_size)},
              arch.hidden_size, arch.mlp_bias),
      down({Member(index, "mlp.down_proj", arch.hidden_size)}, arch.intermediate_size, arch.mlp_bias) {}

std::pair<at::Tensor, at::Tensor> DecoderLayer::BeforeAttention(const Stream& in, const PassPtr& pass, double eps) {
  if (!in.delta.defined()) return {in.residual, qkv.Forward(RmsNorm(in.residual, input_norm, eps), pass)};
  const auto [residual, normed] = AddRmsNorm(in.residual, in.delta, input_norm, eps);
  return {residual, qkv.Forward(normed, pass)};
}

Stream DecoderLayer::AfterAttention(const at::Tensor& residual, const at::Tensor& attended, const PassPtr& pass,
                                    double eps) {
  const auto [sum, normed] = AddRmsNorm(residual, o.Forward(attended, pass), post_attention_norm, eps);
  return {sum, down.Forward(Swiglu(gate_up.Forward(normed, pass)), pass)};
}

Stream DecoderLayer::Forward(const Stream& in, const PassPtr& pass, double eps) {
  const auto [residual, projected] = BeforeAttention(in, pass, eps);
  return AfterAttention(residual, SelfAttention(projected, pass), pass, eps);
}

Stream CheckpointedForward(DecoderLayer& layer, const Stream& in, const PassPtr& pass, double eps) {
  static thread_local const at::Tensor anchor = at::empty({0}).requires_grad_(true);
  const variable_list out = CheckpointFunction::apply(
      in.residual, in.delta.defined() ? std::optional(in.delta) : std::nullopt, anchor, &layer, pass, eps);
  return {out[0], out[1]};
}

}  // namespace studio
