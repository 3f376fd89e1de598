// Turns finished steps into the points that people watch. Pure: the clock's readings are given.
//
//   ProgressMeter meter(total_steps, tokens_seen, now_seconds);
//   meter.Step(tokens, now_seconds);
//   v1::Progress point = meter.Point(step);
#pragma once

#include <cstdint>
#include <deque>

#include "proto/studio/v1/state.pb.h"

namespace studio {

class ProgressMeter {
 public:
  // Steps that the speed is a mean of.
  static constexpr size_t kWindow = 20;

  ProgressMeter(int64_t total_steps, int64_t tokens_seen) : total_steps_(total_steps), tokens_seen_(tokens_seen) {}

  // A step of so many real tokens took so long, evaluation and checkpoints not counted.
  void Step(int64_t tokens, double seconds);

  // `steps_done` of all; the caller fills loss, learning rate, gradient norm, memory and time.
  v1::Progress Point(int64_t steps_done) const;

  int64_t tokens_seen() const { return tokens_seen_; }
  // Over all steps of this process.
  double MeanTokensPerSecond() const { return all_.seconds > 0 ? all_.tokens / all_.seconds : 0; }

 private:
  struct Sum {
    double tokens = 0;
    double seconds = 0;
  };

  int64_t total_steps_;
  int64_t tokens_seen_;
  std::deque<Sum> window_;
  Sum all_;
};

}  // namespace studio
