// Structs that kernels take by value or from a table: the layouts are those of cuda/*.cu.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cmath>
#include <cstdint>

#include "worker/trainer/kernels/operations.h"

namespace studio::kernels {

// As in cuda/rope.cu.
struct HeadStrides {
  long long batch, head, position;
};
inline HeadStrides StridesOf(const at::Tensor& heads) { return {heads.stride(0), heads.stride(1), heads.stride(2)}; }

// As in cuda/glu_adapters.cu.
struct LowRank {
  const void *down, *gate, *up;
  long long down_stride, gate_stride, up_stride;
};

// As in cuda/dropout.cu.
struct DropoutNumbers {
  const void *step_key, *ids;
  unsigned long long sites[3];
  unsigned threshold;
  float kept;
};
inline constexpr size_t kMostDropped = 3;  // adapters of one input: q, k and v

inline DropoutNumbers NumbersOf(const AdapterDropout& dropout) {
  DropoutNumbers numbers{dropout.step_key.data_ptr(),
                         dropout.ids.data_ptr(),
                         {},
                         dropout.Threshold() * 0x10001u,
                         static_cast<float>(dropout.Kept())};
  for (size_t i = 0; i < dropout.adapters(); ++i) numbers.sites[i] = dropout.sites[i];
  return numbers;
}

// As in cuda/adapter_gradients.cu.
struct AdapterProblem {
  const void *narrow, *wide;
  void* grad;
  long long narrow_stride, wide_stride, grad_stride;
  unsigned long long site;
  float scale;
  int ranks, blocks;
  int transposed, drops;
};
inline constexpr size_t kMostProblems = 32;
struct AdapterProblems {
  AdapterProblem each[kMostProblems];
};

// As in cuda/adamw.cu.
struct AdamWNumbers {
  float max_grad_norm;
  float one_minus_beta1, beta2, one_minus_beta2, epsilon;
  float step_size;
  float inverse_root_correction;
  float kept;
};

// As in cuda/adamw.cu.
struct AdamWEntry {
  void *weights, *grad, *exp_avg, *exp_avg_sq;
  long long count;
  int decays, wide;
};

// As in cuda/scaled_copies.cu.
struct CopyEntry {
  const void* from;
  void* to;
  long long to_stride;
  int width, count;
  float scale;
};

inline AdamWNumbers NumbersOf(const AdamWOptions& options, double learning_rate, int64_t step) {
  const auto power = static_cast<double>(step);
  return {.max_grad_norm = static_cast<float>(options.max_grad_norm),
          .one_minus_beta1 = static_cast<float>(1 - options.beta1),
          .beta2 = static_cast<float>(options.beta2),
          .one_minus_beta2 = static_cast<float>(1 - options.beta2),
          .epsilon = static_cast<float>(options.epsilon),
          .step_size = static_cast<float>(learning_rate / (1 - std::pow(options.beta1, power))),
          .inverse_root_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(options.beta2, power))),
          .kept = static_cast<float>(1 - learning_rate * options.weight_decay)};
}

}  // namespace studio::kernels
