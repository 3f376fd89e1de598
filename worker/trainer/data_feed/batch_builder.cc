#include "worker/trainer/data_feed/batch_builder.h"

#include <ATen/ops/empty.h>

namespace studio {

Batch BuildBatch(const RowStore& rows, const MicroBatchRows& micro, int64_t step, at::Device device) {
  const int64_t tokens = rows.Tokens(micro.rows);
  // Lines of one matrix, so that a single copy brings them to the device.
  // Pinned, so that it need not wait for what is queued there.
  const at::Tensor lines = at::empty({5, tokens}, at::TensorOptions(at::kLong).pinned_memory(device.is_cuda()));
  int64_t* const token = lines.data_ptr<int64_t>();
  int64_t* const position = token + tokens;
  int64_t* const label = position + tokens;
  int64_t* const mask_id = label + tokens;
  int64_t* const labelled = mask_id + tokens;

  Batch batch;
  batch.step = step;
  batch.cu_seqlens.push_back(0);
  int64_t at = 0;
  int64_t learnt = 0;
  for (size_t r = 0; r < micro.rows.size(); ++r) {
    const TokenRow row = rows.row(micro.rows[r]);
    const int64_t length = row.tokens.size();
    size_t segment = 0;
    for (int64_t i = 0; i < length; ++i, ++at) {
      if (segment + 1 < row.starts.size() && row.starts[segment + 1] == i) {
        ++segment;
        batch.cu_seqlens.push_back(static_cast<int32_t>(at));
      }
      token[at] = row.tokens[i];
      position[at] = i - row.starts[segment];
      // The first token of an example is never learnt, so nothing is predicted across examples.
      label[at] = i + 1 < length && row.learn[i + 1] ? static_cast<int64_t>(row.tokens[i + 1]) : -100;
      if (label[at] >= 0) labelled[learnt++] = at;
      mask_id[at] = ((micro.first + static_cast<int64_t>(r)) << 32) | i;
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(at));
  }
  const at::Tensor there = lines.to(device, /*non_blocking=*/true);
  batch.tokens = there[0];
  batch.positions = there[1];
  batch.labels = there[2];
  batch.mask_ids = there[3];
  batch.labelled_rows = there[4].narrow(0, 0, learnt);
  return batch;
}

}  // namespace studio
