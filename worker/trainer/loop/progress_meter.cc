#include "worker/trainer/loop/progress_meter.h"

namespace studio {

void ProgressMeter::Step(int64_t tokens, double seconds) {
  tokens_seen_ += tokens;
  all_.tokens += tokens;
  all_.seconds += seconds;
  window_.push_back({static_cast<double>(tokens), seconds});
  if (window_.size() > kWindow) window_.pop_front();
}

v1::Progress ProgressMeter::Point(int64_t steps_done) const {
  Sum sum;
  for (const Sum& step : window_) {
    sum.tokens += step.tokens;
    sum.seconds += step.seconds;
  }
  v1::Progress point;
  point.set_step(steps_done);
  point.set_total_steps(total_steps_);
  point.set_tokens_seen(tokens_seen_);
  if (sum.seconds > 0) {
    point.set_tokens_per_second(sum.tokens / sum.seconds);
    point.set_eta_seconds((total_steps_ - steps_done) * sum.seconds / window_.size());
  }
  return point;
}

}  // namespace studio
