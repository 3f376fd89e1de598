#include "worker/trainer/planned/inputs.h"

#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>

namespace studio::planned {

Inputs::Inputs(int64_t max_tokens, int64_t head_dim, at::Device device) {
  const auto of = [&](at::ScalarType type) { return at::TensorOptions(device).dtype(type); };
  tokens_ = at::zeros({max_tokens}, of(at::kLong));
  rows_ = at::zeros({max_tokens}, of(at::kLong));
  labels_ = at::zeros({max_tokens}, of(at::kLong));
  ids_ = at::zeros({max_tokens}, of(at::kLong));
  row_ids_ = at::zeros({max_tokens}, of(at::kLong));
  mask_key_ = at::zeros({}, of(at::kLong));
  cosine_ = at::zeros({max_tokens, head_dim / 2}, of(at::kFloat));
  sine_ = at::zeros({max_tokens, head_dim / 2}, of(at::kFloat));
  cu_seqlens_ = at::zeros({max_tokens + 1}, of(at::kInt));
  scale_ = at::zeros({}, of(at::kFloat));
}

PassPtr Inputs::Load(const Batch& batch, const Pass& pass, const at::Tensor& rows, double scale) {
  const int64_t tokens = batch.tokens.size(0), learnt = rows.size(0);
  Tokens(tokens).copy_(batch.tokens, /*non_blocking=*/true);
  Rows(learnt).copy_(rows);
  at::Tensor labels = Labels(learnt);
  at::index_select_out(labels, batch.labels.to(rows.device()), 0, rows);
  if (pass.device_mask_key.defined()) {
    Ids(tokens).copy_(pass.mask_ids);
    at::Tensor row_ids = IdsOfRows(learnt);
    at::index_select_out(row_ids, Ids(tokens), 0, rows);
    mask_key_.copy_(pass.device_mask_key);
  }
  scale_.fill_(scale);
  auto here = std::make_shared<Pass>(pass);
  here->cosine = cosine_.narrow(0, 0, tokens);
  here->sine = sine_.narrow(0, 0, tokens);
  here->cosine.copy_(pass.cosine);
  here->sine.copy_(pass.sine);
  if (pass.cu_seqlens_device.defined()) {
    here->cu_seqlens_device = cu_seqlens_.narrow(0, 0, pass.cu_seqlens_device.size(0));
    here->cu_seqlens_device.copy_(pass.cu_seqlens_device);
  }
  return here;
}

}  // namespace studio::planned
