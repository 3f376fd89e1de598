// One decoder layer: norms, attention, MLP. The stream between layers is a residual and what is still to be added to
// it, so that the addition happens inside the next norm.
#pragma once

#include <ATen/core/TensorBody.h>

#include "worker/trainer/model/architecture.h"
#include "worker/trainer/model/attention.h"
#include "worker/trainer/model/linear_group.h"
#include "worker/trainer/model/norm.h"
#include "worker/trainer/model/pass.h"
#include "worker/trainer/model/swiglu.h"

namespace studio {

struct Stream {
  at::Tensor residual;
  at::Tensor delta;  // undefined: nothing to add
};

struct DecoderLayer {
  at::Tensor input_norm, post_attention_norm;  // [H]
  LinearGroup qkv, o, gate_up, down;

  DecoderLayer(const Architecture& arch, int64_t index);

  // What lies before the attention: the residual and q, k, v side by side.
  std::pair<at::Tensor, at::Tensor> BeforeAttention(const Stream& in, const PassPtr& pass, double eps);
  // What lies behind it.
  Stream AfterAttention(const at::Tensor& residual, const at::Tensor& attended, const PassPtr& pass, double eps);
  Stream Forward(const Stream& in, const PassPtr& pass, double eps);

  std::vector<LinearGroup*> groups() { return {&qkv, &o, &gate_up, &down}; }
  std::vector<const LinearGroup*> groups() const { return {&qkv, &o, &gate_up, &down}; }
};

// The layer, keeping its input alone: the backward pass runs it again. Same results to the bit.
Stream CheckpointedForward(DecoderLayer& layer, const Stream& in, const PassPtr& pass, double eps);

}  // namespace studio
