// Loss on held-out rows: the mean over all their valid tokens, whatever the batches and however many the ranks.
//
//   ASSIGN_OR_RETURN(v1::Evaluation result, Evaluate(model, rows, /*batch_rows=*/4, ranks, [&] { return stop; }));
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "proto/studio/v1/state.pb.h"
#include "worker/trainer/data_feed/row_store.h"
#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/parallel/ranks.h"

namespace studio {

// Ranks take turns with the batches and add up in the batches' order, so that any number of them gives the same bits.
// `step` and time are the caller's to fill. Cancelled once `stopped` says so: asked before each turn, as often on every
// rank, and all must get the same answer.
absl::StatusOr<v1::Evaluation> Evaluate(CausalLm& model, const RowStore& rows, int64_t batch_rows, Ranks& ranks,
                                        const std::function<absl::StatusOr<bool>()>& stopped);

}  // namespace studio
