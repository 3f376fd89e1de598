// One micro batch: all its rows in one flat line, without padding.
//
//   tokens      5 6 7 8 | 9 2 3
//   positions   0 1 2 3 | 0 1 2
//   labels      -100 7 8 -100 | 2 3 -100     (already shifted: what comes after this token)
//   cu_seqlens  0 4 7
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <vector>

namespace studio {

struct Batch {
  at::Tensor tokens;     // [T] int64
  at::Tensor positions;  // [T] int64; of a token within its segment
  // Of each segment's first token: above 0 where what comes before it is cached (decode.cc).
  int64_t first_position = 0;
  at::Tensor labels;  // [T] int64; -100 where nothing is learnt. May be undefined where no loss is asked for.
  // [learnt] int64: where labels are, ascending. Undefined: found from the labels, for which the device is waited for.
  at::Tensor labelled_rows;
  // [segments + 1] from 0 to T: a token attends to those before it in its own segment alone.
  std::vector<int32_t> cu_seqlens;

  // Where the masks of dropout and NEFTune come from, with the model's seed: they are the same however a global batch
  // is split. `mask_ids` names each token in the global batch (row << 32 | token); undefined: 0 … T-1.
  int64_t step = 0;
  at::Tensor mask_ids;  // [T] int64
};

}  // namespace studio
