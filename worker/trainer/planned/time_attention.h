// How long attention of one layer takes on the device: what AttentionChooser is asked to measure.
//
//   double microseconds = TimeAttention(AttentionKind::kFlash, ops, pass, at::kBFloat16);
//
// Forward and backward pass with the rotary embedding, on q, k and v of the pass's shape drawn by counter. Recorded and
// replayed, as the steps are whose shape comes again: of a short pass direct calls would measure the host. Waits for
// the device, so never inside of a recording; takes about a layer's memory and gives it back. Throws what LibTorch
// throws.
#pragma once

#include <c10/core/ScalarType.h>

#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/model/pass.h"
#include "worker/trainer/planned/attention_kind.h"

namespace studio::planned {

double TimeAttention(AttentionKind kind, const kernels::Operations& ops, const PassPtr& pass, at::ScalarType type);

}  // namespace studio::planned
