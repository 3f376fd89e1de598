// When the next checkpoint is due: a pure decision over the clock readings that it is given.
//
//   CheckpointCadence cadence(training, start_seconds);
//   if (cadence.Due(step, now_seconds)) { …; cadence.Started(now_seconds); }
//   cadence.Cost(seconds);       // what the last one took, copy and write
//
// By steps where save_steps is set; else by time, stretched so that checkpoints cost at most 2 % of it.
#pragma once

#include <cstdint>

#include "proto/studio/v1/job.pb.h"

namespace studio {

class CheckpointCadence {
 public:
  static constexpr double kMaxShare = 0.02;

  CheckpointCadence(const v1::Training& training, double now_seconds)
      : save_steps_(training.save_steps()), save_seconds_(training.save_seconds()), last_seconds_(now_seconds) {}

  // `step` optimizer steps are done.
  bool Due(int64_t step, double now_seconds) const {
    if (save_steps_ > 0) return step % save_steps_ == 0;
    return now_seconds - last_seconds_ >= (save_seconds_ > cost_ / kMaxShare ? save_seconds_ : cost_ / kMaxShare);
  }
  void Started(double now_seconds) { last_seconds_ = now_seconds; }
  void Cost(double seconds) { cost_ = seconds; }

 private:
  const int64_t save_steps_;
  const double save_seconds_;
  double last_seconds_;
  double cost_ = 0;
};

}  // namespace studio
