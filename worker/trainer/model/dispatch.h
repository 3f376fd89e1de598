// From a tensor to the typed kernels of cpu_kernels.h.
//
//   if (HasCpuKernels(x)) DispatchCpu(x, [&]<typename T>() { cpu::Swiglu<T>(Data<T>(x), …); });
//
// Elsewhere (CUDA, MPS, fp16) the callers use LibTorch's operations for the same formula.
#pragma once

#include <ATen/core/TensorBody.h>

#include "worker/trainer/model/cpu_kernels.h"

namespace studio {

inline bool HasCpuKernels(const at::Tensor& x) {
  return x.device().is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

template <typename F>
void DispatchCpu(const at::Tensor& x, F&& body) {
  if (x.scalar_type() == at::kFloat) {
    body.template operator()<float>();
  } else {
    body.template operator()<cpu::Bfloat16>();
  }
}

// Tensors reach kernels contiguous, or with a row stride that the caller passes on.
template <typename T>
T* Data(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

}  // namespace studio
