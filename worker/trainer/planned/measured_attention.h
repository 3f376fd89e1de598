// The attention of full micro batches, by the figures of this device (attention_chooser.h).
//
//   MeasuredAttention measured({"NVIDIA H200", "9.0"}, AttentionChooser(AttentionTable(env, folder), log));
//   AttentionKind kind = measured.Choose(pass, at::kBFloat16, ops);   // may measure, the first time of a shape
//
// For micro batches of the plan's full size: a shape that comes once takes longer to measure than any choice saves.
// Call it before the step is recorded. One thread at a time. An exception of the measurement goes no further.
#pragma once

#include <c10/core/ScalarType.h>

#include <functional>
#include <string>
#include <utility>

#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/model/pass.h"
#include "worker/trainer/planned/attention_chooser.h"
#include "worker/trainer/planned/attention_kind.h"
#include "worker/trainer/planned/time_attention.h"

namespace studio::planned {

class MeasuredAttention {
 public:
  struct Card {
    std::string name;                // "NVIDIA H200"
    std::string compute_capability;  // "9.0"
  };
  // Microseconds of forward and backward pass; throws what LibTorch throws. Tests have figures of their own.
  using Time = std::function<double(AttentionKind kind, const kernels::Operations& ops, const PassPtr& pass,
                                    at::ScalarType type)>;

  MeasuredAttention(Card card, AttentionChooser chooser, Time time = TimeAttention)
      : card_(std::move(card)), chooser_(std::move(chooser)), time_(std::move(time)) {}

  // kReference where FlashAttention does not run (Pass::attention); that is never measured.
  AttentionKind Choose(const PassPtr& pass, at::ScalarType type, const kernels::Operations& ops);

 private:
  const Card card_;
  AttentionChooser chooser_;
  const Time time_;
};

}  // namespace studio::planned
