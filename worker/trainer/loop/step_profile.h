// The timeline of one step, every operation and every kernel on the device, as a Chrome trace (chrome://tracing,
// Perfetto, tests/benchmarks/gpu/kernel_table.py), by the profiler that LibTorch carries.
//
//   StepProfile profile("trace.json", /*step=*/10, device);
//   profile.Before(step); … the step … profile.After(step);
//
// Throws what LibTorch throws. The step that is profiled is a little slower than others.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <utility>

namespace studio {

class StepProfile {
 public:
  StepProfile(std::string file, int64_t step, c10::Device device)
      : file_(std::move(file)), step_(step), device_(device) {}

  bool Takes(int64_t step) const { return step == step_; }
  void Before(int64_t step) const;
  void After(int64_t step) const;

 private:
  const std::string file_;
  const int64_t step_;
  const c10::Device device_;
};

}  // namespace studio
