// The forward pass, from tokens to the loss.
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "common/status/check.h"
#include "worker/trainer/model/causal_lm_impl.h"
#include "worker/trainer/model/counter_random.h"
#include "worker/trainer/model/loss.h"
#include "worker/trainer/model/noise.h"
#include "worker/trainer/model/rope.h"

namespace studio {

void CausalLm::Impl::GrowTables(int64_t positions) {
  const bool dynamic = arch.rope.kind == RopeKind::kDynamic && positions > arch.max_positions;
  if (cosine_table.defined() && cosine_table.size(0) >= positions && !dynamic) return;
  const int64_t rows = dynamic ? positions : std::max<int64_t>(positions, std::min<int64_t>(arch.max_positions, 2048));
  const RopeFrequencies rope = InverseFrequencies(arch, positions);
  const int64_t half = arch.head_dim / 2;
  const at::Tensor cosine = at::empty({rows, half}, at::TensorOptions(at::kFloat));
  const at::Tensor sine = at::empty({rows, half}, at::TensorOptions(at::kFloat));
  float* c = cosine.data_ptr<float>();
  float* s = sine.data_ptr<float>();
  for (int64_t p = 0; p < rows; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(p) * rope.inverse[i];
      c[p * half + i] = std::cos(angle) * rope.scale;
      s[p * half + i] = std::sin(angle) * rope.scale;
    }
  }
  cosine_table = cosine.to(options.device);
  sine_table = sine.to(options.device);
}

PassPtr CausalLm::Impl::MakePass(const Batch& batch, bool training) {
  at::NoGradGuard no_grad;
  auto pass = std::make_shared<Pass>();
  pass->cu_seqlens = batch.cu_seqlens;
  STUDIO_CHECK(!batch.cu_seqlens.empty() && batch.cu_seqlens.back() == batch.tokens.size(0))
      << "cu_seqlens must end at the number of tokens";
  for (size_t i = 0; i + 1 < batch.cu_seqlens.size(); ++i) {
    pass->longest = std::max<int64_t>(pass->longest, batch.cu_seqlens[i + 1] - batch.cu_seqlens[i]);
  }
  GrowTables(std::max<int64_t>(1, batch.first_position + pass->longest));
  const at::Tensor where = batch.positions.to(options.device);
  pass->cosine = at::index_select(cosine_table, 0, where);
  pass->sine = at::index_select(sine_table, 0, where);
  pass->attention = attention;
  if (attention == Attention::kFlash) {
    // Pinned, so that it need not wait for what is queued there.
    pass->cu_seqlens_device = at::tensor(batch.cu_seqlens, at::TensorOptions(at::kInt))
                                  .pin_memory()
                                  .to(options.device, /*non_blocking=*/true);
  }
  pass->heads = arch.num_heads;
  pass->kv_heads = arch.num_kv_heads;
  pass->head_dim = arch.head_dim;
  pass->training = training;
  pass->mask_key = RandomKey(RandomKey(options.seed, "masks"), static_cast<uint64_t>(batch.step));
  if (training) {
    pass->mask_ids = batch.mask_ids.defined() ? batch.mask_ids : at::arange(batch.tokens.size(0), at::kLong);
    if (options.lora && options.lora->dropout > 0) {
      pass->mask_ids = pass->mask_ids.to(options.device, /*non_blocking=*/true);
      pass->device_mask_key = at::full({}, static_cast<int64_t>(pass->mask_key), pass->mask_ids.options());
    }
  }
  return pass;
}

PassPtr CausalLm::Impl::Select(const PassPtr& pass, const at::Tensor& rows) {
  if (!pass->training || !rows.defined()) return pass;
  auto selected = std::make_shared<Pass>(*pass);
  selected->mask_ids = at::index_select(pass->mask_ids, 0, rows.to(pass->mask_ids.device()));
  return selected;
}

at::Tensor CausalLm::Impl::Embed(const at::Tensor& tokens, const Pass& pass) {
  at::Tensor hidden = at::embedding(embedding, tokens.to(options.device)).to(options.compute_dtype);
  if (pass.training && options.neftune_alpha > 0) {
    hidden = hidden + EmbeddingNoise(pass, arch.hidden_size, options.neftune_alpha).to(hidden.options());
  }
  return hidden;
}

at::Tensor CausalLm::Impl::Run(const Batch& batch, const PassPtr& pass, const at::Tensor& rows) {
  Stream stream{Embed(batch.tokens, *pass), at::Tensor()};
  const bool recompute = options.gradient_checkpointing && at::GradMode::is_enabled();
  for (size_t i = 0; i < layers.size(); ++i) {
    DecoderLayer& layer = layers[i];
    const bool last = i + 1 == layers.size();
    if (last && rows.defined()) {
      // Behind the last attention, rows without a label reach no loss: they go no further.
      const auto [residual, projected] = layer.BeforeAttention(stream, pass, arch.rms_norm_eps);
      const at::Tensor attended = SelfAttention(projected, pass);
      stream = layer.AfterAttention(at::index_select(residual, 0, rows), at::index_select(attended, 0, rows),
                                    Select(pass, rows), arch.rms_norm_eps);
    } else if (recompute) {
      stream = CheckpointedForward(layer, stream, pass, arch.rms_norm_eps);
    } else {
      stream = layer.Forward(stream, pass, arch.rms_norm_eps);
    }
  }
  return AddRmsNorm(stream.residual, stream.delta, final_norm, arch.rms_norm_eps).second;
}

at::Tensor CausalLm::Impl::HeadLogits(const at::Tensor& hidden) const {
  const at::Tensor logits = at::linear(hidden, head.to(hidden.scalar_type())).to(at::kFloat);
  return SoftCapped(logits, arch.final_logit_soft_cap);
}

LossTensor CausalLm::Impl::Loss(const Batch& batch, bool training) {
  STUDIO_CHECK(batch.labels.defined()) << "a loss needs labels";
  const at::Tensor rows =
      (batch.labelled_rows.defined() ? batch.labelled_rows : at::nonzero(batch.labels.ge(0)).squeeze(1))
          .to(options.device);
  LossTensor loss;
  loss.valid_tokens = rows.size(0);
  const at::Tensor hidden = Run(batch, MakePass(batch, training), rows);
  const at::Tensor labels = at::index_select(batch.labels.to(options.device), 0, rows);
  loss.loss_sum = HeadLoss(hidden, head, labels, arch.final_logit_soft_cap, options.loss_chunk_rows);
  return loss;
}

}  // namespace studio
