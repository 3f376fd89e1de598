#include "worker/trainer/eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "worker/trainer/data_feed/batch_builder.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/parallel/sync.h"
#include "worker/trainer/status/failure.h"

namespace studio {

absl::StatusOr<v1::Evaluation> Evaluate(CausalLm& model, const RowStore& rows, int64_t batch_rows, Ranks& ranks,
                                        const std::function<absl::StatusOr<bool>()>& stopped) {
  STUDIO_CHECK(rows.size() > 0 && batch_rows > 0);
  std::vector<uint32_t> all(rows.size());
  std::iota(all.begin(), all.end(), 0);
  const int64_t batches = (rows.size() + batch_rows - 1) / batch_rows, world_size = ranks.size();
  // Loss and valid tokens of this rank's batches, two numbers each.
  std::vector<double> mine;
  for (int64_t turn = 0; turn * world_size < batches; ++turn) {
    ASSIGN_OR_RETURN(const bool stop, stopped());
    if (stop) return absl::CancelledError("stopped while evaluating");
    const int64_t first = (turn * world_size + ranks.rank()) * batch_rows;
    if (first >= rows.size()) continue;
    const std::span<const uint32_t> chosen(all.data() + first, std::min(batch_rows, rows.size() - first));
    ASSIGN_OR_RETURN(const LossValue loss, CatchTorch([&] {
                       return model.Evaluate(BuildBatch(rows, {first, chosen}, /*step=*/0, model.options().device));
                     }));
    mine.push_back(loss.loss_sum);
    mine.push_back(static_cast<double>(loss.valid_tokens));
  }
  ASSIGN_OR_RETURN(const std::vector<double> sums, SyncAcrossProcesses(std::span<const double>(mine), ranks));
  double loss_sum = 0;
  int64_t valid_tokens = 0;
  for (int64_t turn = 0, batch = 0; batch < batches; ++turn) {
    int64_t place = 2 * turn;  // in `sums`, which has one rank's batches after the other's
    for (int64_t rank = 0; rank < world_size && batch < batches; ++rank, ++batch) {
      loss_sum += sums[place];
      valid_tokens += static_cast<int64_t>(sums[place + 1]);
      place += 2 * ((batches - rank + world_size - 1) / world_size);
    }
  }
  if (!std::isfinite(loss_sum)) {
    return FailureError(v1::DIVERGED, absl::StrCat("the loss on the held-out rows is ", loss_sum));
  }
  v1::Evaluation result;
  result.set_loss(valid_tokens > 0 ? loss_sum / valid_tokens : 0);
  result.set_valid_tokens(valid_tokens);
  return result;
}

}  // namespace studio
