#include "worker/trainer/data_feed/feed_plan.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status/check.h"

namespace studio {

absl::StatusOr<FeedPlan> MakeFeedPlan(const v1::Training& training, uint64_t seed, int64_t rows, int64_t micro,
                                      int64_t accumulation, int64_t rank, int64_t world_size) {
  STUDIO_CHECK(micro > 0 && accumulation > 0 && 0 <= rank && rank < world_size);
  FeedPlan plan{seed, rows, micro, accumulation, rank, world_size};
  const int64_t global = plan.global();
  plan.steps_per_epoch = training.drop_last_batch() ? rows / global : (rows + global - 1) / global;
  if (plan.steps_per_epoch == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "training.drop_last_batch: the data has ", rows, " training rows, less than one global batch of ", global,
        " rows, so nothing would be trained; lower training.batch_size or grad_accumulation, or "
        "set drop_last_batch: false"));
  }
  plan.total_steps = training.max_steps() > 0
                         ? training.max_steps()
                         : static_cast<int64_t>(std::ceil(training.epochs() * plan.steps_per_epoch));
  return plan;
}

std::span<const uint32_t> GlobalRowsOfStep(const FeedPlan& plan, std::span<const uint32_t> order, int64_t step) {
  STUDIO_CHECK(order.size() == plan.rows);
  const int64_t begin = (step % plan.steps_per_epoch) * plan.global();
  return order.subspan(begin, std::min(plan.global(), plan.rows - begin));
}

std::vector<MicroBatchRows> RowsOfStep(const FeedPlan& plan, std::span<const uint32_t> order, int64_t step) {
  const std::span<const uint32_t> global = GlobalRowsOfStep(plan, order, step);
  const int64_t size = global.size();
  std::vector<MicroBatchRows> micro_batches;
  for (int64_t turn = 0; turn < plan.accumulation; ++turn) {
    const int64_t first = (turn * plan.world_size + plan.rank) * plan.micro;
    if (first >= size) break;
    micro_batches.push_back({first, global.subspan(first, std::min(plan.micro, size - first))});
  }
  return micro_batches;
}

}  // namespace studio
