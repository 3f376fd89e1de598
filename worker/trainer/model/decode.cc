// Token by token with a cache of keys and values.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "common/status/check.h"
#include "worker/trainer/model/causal_lm_impl.h"

namespace studio {
namespace {

// qkv [n, …], turned already: the new rows against all that are cached. [n, heads * head_dim].
at::Tensor CachedAttention(const at::Tensor& qkv, const Pass& pass, KvCache::Layer& cache, int64_t length) {
  const int64_t n = qkv.size(0);
  const at::Tensor heads = qkv.view({n, -1, pass.head_dim});
  cache.keys.narrow(0, length, n).copy_(heads.narrow(1, pass.heads, pass.kv_heads));
  cache.values.narrow(0, length, n).copy_(heads.narrow(1, pass.heads + pass.kv_heads, pass.kv_heads));
  const int64_t total = length + n;
  const int64_t group = pass.heads / pass.kv_heads;
  const auto shared = [&](const at::Tensor& x) {
    return x.narrow(0, 0, total)
        .transpose(0, 1)
        .unsqueeze(1)
        .expand({pass.kv_heads, group, total, pass.head_dim})
        .reshape({1, pass.heads, total, pass.head_dim});
  };
  const at::Tensor q = heads.narrow(1, 0, pass.heads).transpose(0, 1).unsqueeze(0);
  std::optional<at::Tensor> mask;
  if (n > 1 && length > 0) mask = at::ones({n, total}, q.options().dtype(at::kBool)).tril(length);
  const at::Tensor out = at::scaled_dot_product_attention(q, shared(cache.keys), shared(cache.values), mask, 0.0,
                                                          /*is_causal=*/n > 1 && length == 0);
  return out.squeeze(0).transpose(0, 1).reshape({n, pass.heads * pass.head_dim});
}

}  // namespace

KvCache CausalLm::MakeCache(int64_t capacity) const {
  KvCache cache;
  const auto type = at::TensorOptions(impl_->options.device).dtype(impl_->options.compute_dtype);
  for (int64_t i = 0; i < impl_->arch.num_layers; ++i) {
    const auto make = [&] { return at::empty({capacity, impl_->arch.num_kv_heads, impl_->arch.head_dim}, type); };
    cache.layers.push_back({make(), make()});
  }
  return cache;
}

at::Tensor CausalLm::Extend(const at::Tensor& tokens, KvCache& cache) {
  at::NoGradGuard no_grad;
  const int64_t n = tokens.size(0);
  STUDIO_CHECK(n > 0 && cache.length + n <= cache.layers[0].keys.size(0)) << "the cache is full";
  Batch batch;
  batch.tokens = tokens;
  batch.first_position = cache.length;
  batch.positions = at::arange(cache.length, cache.length + n, at::kLong);
  batch.cu_seqlens = {0, static_cast<int32_t>(n)};
  const PassPtr pass = impl_->MakePass(batch, /*training=*/false);
  Stream stream{impl_->Embed(tokens, *pass), at::Tensor()};
  for (size_t i = 0; i < impl_->layers.size(); ++i) {
    DecoderLayer& layer = impl_->layers[i];
    auto [residual, qkv] = layer.BeforeAttention(stream, pass, impl_->arch.rms_norm_eps);
    RotateInPlace(qkv, *pass, 1);
    at::Tensor attended = CachedAttention(qkv, *pass, cache.layers[i], cache.length);
    if (i + 1 == impl_->layers.size()) {  // only the last token's logits are asked for
      residual = residual.narrow(0, n - 1, 1).contiguous();
      attended = attended.narrow(0, n - 1, 1).contiguous();
    }
    stream = layer.AfterAttention(residual, attended, pass, impl_->arch.rms_norm_eps);
  }
  cache.length += n;
  const at::Tensor hidden =
      AddRmsNorm(stream.residual, stream.delta, impl_->final_norm, impl_->arch.rms_norm_eps).second;
  return impl_->HeadLogits(hidden).squeeze(0);
}

}  // namespace studio
