#include "worker/trainer/device/utilization.h"

#include <ATen/Parallel.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>

#include "worker/trainer/probe/nvml.h"

namespace studio {
namespace {

double NowSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double ProcessorSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * time.tv_usec; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::function<double()> OfTheHost() {
  return [wall = NowSeconds(), processor = ProcessorSeconds()]() mutable {
    const double passed = NowSeconds() - wall, worked = ProcessorSeconds() - processor;
    wall += passed, processor += worked;
    // More than its threads where others (data, checkpoints) work beside them.
    return passed > 0 ? std::min(1.0, worked / passed / at::get_num_threads()) : 0;
  };
}

}  // namespace

Utilization::Utilization(at::Device device) {
  if (device.is_cpu()) ask_ = OfTheHost();
  if (device.is_cuda()) ask_ = [index = device.index()] { return NvmlUtilization(index); };
}

double Utilization::Read() {
  const double now = NowSeconds();
  if (!ask_ || now - asked_seconds_ < 1) return last_;
  asked_seconds_ = now;
  return last_ = ask_();
}

}  // namespace studio
