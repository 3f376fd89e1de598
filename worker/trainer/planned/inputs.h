// What a micro batch brings with it, in places on the device that stay: a recorded step reads them there.
//
//   Inputs inputs(/*max_tokens=*/16384, head_dim, device);
//   PassPtr pass = inputs.Load(batch, *model.TrainingPass(batch), rows, scale);   // copies are queued
//
// Views of an earlier Load see the later one's numbers. Throws what LibTorch throws.
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>

#include "worker/trainer/model/batch.h"
#include "worker/trainer/model/pass.h"

namespace studio::planned {

class Inputs {
 public:
  Inputs(int64_t max_tokens, int64_t head_dim, at::Device device);

  // `rows` [learnt] int64 on the device: those that have a label. The pass is a copy of `pass` whose tensors lie here.
  PassPtr Load(const Batch& batch, const Pass& pass, const at::Tensor& rows, double scale);

  at::Tensor Tokens(int64_t tokens) const { return tokens_.narrow(0, 0, tokens); }      // [tokens] int64
  at::Tensor Rows(int64_t learnt) const { return rows_.narrow(0, 0, learnt); }          // [learnt] int64
  at::Tensor Ids(int64_t tokens) const { return ids_.narrow(0, 0, tokens); }            // [tokens] int64, masks' names
  at::Tensor IdsOfRows(int64_t learnt) const { return row_ids_.narrow(0, 0, learnt); }  // [learnt] int64
  at::Tensor Labels(int64_t learnt) const { return labels_.narrow(0, 0, learnt); }      // [learnt] int64, of those rows
  // [] fp32: what the micro batch's gradient is multiplied by.
  const at::Tensor& Scale() const { return scale_; }
  // [] int64: the step's, of dropout's masks. It, Ids and IdsOfRows are loaded where the pass has a key.
  const at::Tensor& MaskKey() const { return mask_key_; }

 private:
  at::Tensor tokens_, rows_, labels_, ids_, row_ids_, mask_key_;
  at::Tensor cosine_, sine_;  // [max_tokens, head_dim / 2] fp32
  at::Tensor cu_seqlens_;     // [max_tokens + 1] int32
  at::Tensor scale_;
};

}  // namespace studio::planned
