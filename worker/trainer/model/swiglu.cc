#include "worker/trainer/model/swiglu.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/silu_backward.h>
#include <torch/csrc/autograd/custom_function.h>

#include "worker/trainer/model/cpu_kernels.h"
#include "worker/trainer/model/dispatch.h"

namespace studio {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& gate_up) {
    const int64_t width = gate_up.size(1) / 2;
    ctx->save_for_backward({gate_up});
    if (!HasCpuKernels(gate_up)) return at::silu(gate_up.narrow(1, 0, width)).mul_(gate_up.narrow(1, width, width));
    const at::Tensor out = at::empty({gate_up.size(0), width}, gate_up.options());
    DispatchCpu(gate_up, [&]<typename T>() { cpu::Swiglu<T>(Data<T>(gate_up), gate_up.size(0), width, Data<T>(out)); });
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const at::Tensor gate_up = ctx->get_saved_variables()[0];
    const int64_t width = gate_up.size(1) / 2;
    const at::Tensor d_gate_up = at::empty_like(gate_up);
    if (!HasCpuKernels(gate_up)) {
      const at::Tensor gate = gate_up.narrow(1, 0, width);
      const at::Tensor up = gate_up.narrow(1, width, width);
      d_gate_up.narrow(1, 0, width).copy_(at::silu_backward(grads[0] * up, gate));
      d_gate_up.narrow(1, width, width).copy_(at::silu(gate).mul_(grads[0]));
      return {d_gate_up};
    }
    const at::Tensor d_out = grads[0].contiguous();
    DispatchCpu(gate_up, [&]<typename T>() {
      cpu::SwigluBackward<T>(Data<T>(d_out), Data<T>(gate_up), gate_up.size(0), width, Data<T>(d_gate_up));
    });
    return {d_gate_up};
  }
};

}  // namespace

at::Tensor Swiglu(const at::Tensor& gate_up) { return SwigluFunction::apply(gate_up); }

}  // namespace studio
