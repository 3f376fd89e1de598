// How busy a rank's device is: what nvidia-smi shows of a card, without it; of a CPU, this process's share of its
// threads' time.
//
//   Utilization utilization(device);
//   … train … ; point.set_utilization(utilization.Read());
//
// Belongs to one thread.
#pragma once

#include <c10/core/Device.h>

#include <functional>

namespace studio {

class Utilization {
 public:
  explicit Utilization(at::Device device);

  // 0 to 1; 0 where nobody says (no NVML, a MIG slice, Metal). Asks at most once a second and repeats its answer
  // between: a step may take a hundredth of that, and NVML's own figure is of its last second.
  double Read();

 private:
  // Of the time since it was called last.
  std::function<double()> ask_;
  double asked_seconds_ = -1;
  double last_ = 0;
};

}  // namespace studio
