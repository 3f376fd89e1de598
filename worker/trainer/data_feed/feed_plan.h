// Which rows a step trains on: a pure function of the step's number, so that exact resume needs no stored position.
//
//   ASSIGN_OR_RETURN(FeedPlan plan, MakeFeedPlan(job.training(), seed, rows, /*micro=*/2, /*accumulation=*/4, 0, 1));
//   for (int64_t step = 0; step < plan.total_steps; ++step) {
//     for (const MicroBatchRows& rows : RowsOfStep(plan, order_of_the_epoch, step)) …
//   }
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/studio/v1/job.pb.h"

namespace studio {

struct FeedPlan {
  uint64_t seed = 0;
  int64_t rows = 0;
  // Rows per micro batch, micro batches per step, and this rank's place.
  int64_t micro = 1;
  int64_t accumulation = 1;
  int64_t rank = 0;
  int64_t world_size = 1;
  int64_t steps_per_epoch = 0;
  int64_t total_steps = 0;

  int64_t global() const { return micro * accumulation * world_size; }
  int64_t EpochOf(int64_t step) const { return step / steps_per_epoch; }
  bool EndsEpoch(int64_t step) const { return (step + 1) % steps_per_epoch == 0; }
};

// InvalidArgument where drop_last_batch leaves no batch at all.
absl::StatusOr<FeedPlan> MakeFeedPlan(const v1::Training& training, uint64_t seed, int64_t rows, int64_t micro,
                                      int64_t accumulation, int64_t rank, int64_t world_size);

// Rows of one micro batch of this rank. `first` is their place in the global batch: masks are named by it.
struct MicroBatchRows {
  int64_t first = 0;
  std::span<const uint32_t> rows;
};

// This rank's micro batches of a step, in order; `order` is EpochOrder of the step's epoch and outlives the result.
// The last step of an epoch may have fewer rows, so a rank may have none.
std::vector<MicroBatchRows> RowsOfStep(const FeedPlan& plan, std::span<const uint32_t> order, int64_t step);

// All rows of the step, of all ranks.
std::span<const uint32_t> GlobalRowsOfStep(const FeedPlan& plan, std::span<const uint32_t> order, int64_t step);

}  // namespace studio
