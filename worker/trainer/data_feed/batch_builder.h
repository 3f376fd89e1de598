// Lays rows out as the flat, padding-free batch that the model takes (model/batch.h draws one).
//
//   const Batch batch = BuildBatch(rows, micro, step, device);
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>

#include "worker/trainer/data_feed/feed_plan.h"
#include "worker/trainer/data_feed/row_store.h"
#include "worker/trainer/model/batch.h"

namespace studio {

// One segment for each example of each row, in order. Throws what LibTorch throws.
Batch BuildBatch(const RowStore& rows, const MicroBatchRows& micro, int64_t step, at::Device device);

}  // namespace studio
