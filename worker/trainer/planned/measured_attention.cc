#include "worker/trainer/planned/measured_attention.h"

#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/planned/attention.h"

namespace studio::planned {

AttentionKind MeasuredAttention::Choose(const PassPtr& pass, at::ScalarType type, const kernels::Operations& ops) {
  if (pass->attention != Attention::kFlash) return AttentionKind::kReference;
  const AttentionKey key = {.device = card_.name,
                            .compute_capability = card_.compute_capability,
                            .libtorch = STUDIO_LIBTORCH_VERSION,
                            .dtype = c10::toString(type),
                            .heads = pass->heads,
                            .kv_heads = pass->kv_heads,
                            .head_dim = pass->head_dim,
                            .longest = pass->longest,
                            .tokens = pass->tokens(),
                            .one_length = OneLength(*pass)};
  return chooser_.Choose(key,
                         [&](AttentionKind kind) { return CatchTorch([&] { return time_(kind, ops, pass, type); }); });
}

}  // namespace studio::planned
