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
#include "worker/trainer/status/failure.h"

namespace studio {

absl::StatusOr<v1::Evaluation> Evaluate(CausalLm& model, const RowStore& rows, int64_t batch_rows,
                                        const std::function<bool()>& stopped) {
  STUDIO_CHECK(rows.size() > 0 && batch_rows > 0);
  std::vector<uint32_t> all(rows.size());
  std::iota(all.begin(), all.end(), 0);
  double loss_sum = 0;
  int64_t valid_tokens = 0;
  for (int64_t first = 0; first < rows.size(); first += batch_rows) {
    if (stopped()) return absl::CancelledError("stopped while evaluating");
    const std::span<const uint32_t> chosen(all.data() + first, std::min(batch_rows, rows.size() - first));
    ASSIGN_OR_RETURN(const LossValue loss, CatchTorch([&] {
                       return model.Evaluate(BuildBatch(rows, {first, chosen}, /*step=*/0, model.options().device));
                     }));
    loss_sum += loss.loss_sum;
    valid_tokens += loss.valid_tokens;
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
