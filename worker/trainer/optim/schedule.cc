#include "worker/trainer/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace studio {
namespace {

double Decay(const Schedule& schedule, int64_t step) {
  const double span = std::max<int64_t>(1, schedule.total_steps - schedule.warmup_steps);
  switch (schedule.kind) {
    case v1::Training::LINEAR:
      return std::max(0.0, static_cast<double>(schedule.total_steps - step) / span);
    case v1::Training::COSINE:
      return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * (step - schedule.warmup_steps) / span)));
    default:
      return 1.0;
  }
}

}  // namespace

Schedule MakeSchedule(const v1::Training& training, int64_t total_steps) {
  Schedule schedule;
  schedule.kind = training.schedule();
  schedule.peak = training.learning_rate();
  schedule.min_ratio = training.min_learning_rate_ratio();
  schedule.total_steps = total_steps;
  schedule.warmup_steps = training.has_warmup_steps()
                              ? training.warmup_steps()
                              : static_cast<int64_t>(std::ceil(total_steps * training.warmup_ratio()));
  return schedule;
}

double LearningRate(const Schedule& schedule, int64_t step) {
  if (step < schedule.warmup_steps) return schedule.peak * step / std::max<int64_t>(1, schedule.warmup_steps);
  const double decay = Decay(schedule, step);
  if (schedule.kind == v1::Training::CONSTANT) return schedule.peak;
  return schedule.peak * (decay * (1.0 - schedule.min_ratio) + schedule.min_ratio);
}

}  // namespace studio
