// Learning rates by step: a pure function, so that a resumed run needs nothing but the step's number.
//
//   const Schedule schedule = {.kind = Training::COSINE, .peak = 1e-4, .warmup_steps = 3, .total_steps = 100};
//   optimizer.Step(LearningRate(schedule, step));  // step counts from 0
//
// The same numbers as Transformers' get_{cosine,linear,constant}_schedule_with_warmup, and with a minimum ratio as its
// get_cosine_with_min_lr_schedule_with_warmup: with warm-up, the very first step has a learning rate of 0.
#pragma once

#include <cstdint>

#include "proto/studio/v1/job.pb.h"

namespace studio {

struct Schedule {
  v1::Training::Schedule kind = v1::Training::COSINE;
  double peak = 0;
  // The last step's learning rate as a share of `peak` (not for CONSTANT).
  double min_ratio = 0;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;
};

// The schedule that a job asks for. A warm-up ratio is rounded up to steps, as Transformers' Trainer does.
Schedule MakeSchedule(const v1::Training& training, int64_t total_steps);

// Learning rate of optimizer step `step` (0-based).
double LearningRate(const Schedule& schedule, int64_t step);

}  // namespace studio
