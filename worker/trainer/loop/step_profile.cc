#include "worker/trainer/loop/step_profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <memory>
#include <set>

namespace studio {

using torch::profiler::impl::ActivityType;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;

void StepProfile::Before(int64_t step) const {
  if (step != step_) return;
  std::set<ActivityType> activities = {ActivityType::CPU};
  if (device_.is_cuda()) activities.insert(ActivityType::CUDA);
  const ProfilerConfig config(ProfilerState::KINETO);
  torch::autograd::profiler::prepareProfiler(config, activities);
  torch::autograd::profiler::enableProfiler(config, activities);
}

void StepProfile::After(int64_t step) const {
  if (step != step_) return;
  torch::autograd::profiler::disableProfiler()->save(file_);
}

}  // namespace studio
