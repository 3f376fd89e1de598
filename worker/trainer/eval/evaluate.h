// Loss on held-out rows: the mean over all their valid tokens, whatever the batches.
//
//   ASSIGN_OR_RETURN(v1::Evaluation result, Evaluate(model, rows, /*batch_rows=*/4, device, [&] { return stop; }));
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "proto/studio/v1/state.pb.h"
#include "worker/trainer/data_feed/row_store.h"
#include "worker/trainer/model/causal_lm.h"

namespace studio {

// `step` and time are the caller's to fill. Cancelled once `stopped` says so (asked between batches).
absl::StatusOr<v1::Evaluation> Evaluate(CausalLm& model, const RowStore& rows, int64_t batch_rows,
                                        const std::function<bool()>& stopped);

}  // namespace studio
