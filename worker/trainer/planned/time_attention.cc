#include "worker/trainer/planned/time_attention.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string_view>

#include "worker/trainer/device/runtime.h"
#include "worker/trainer/model/counter_random.h"
#include "worker/trainer/planned/attention.h"
#include "worker/trainer/planned/recorder.h"

namespace studio::planned {
namespace {

// The least of some rounds: what a card's clock and other processes add is never negative.
constexpr int kRounds = 5;
// Long enough that a launch's few microseconds do not count, short enough that nobody waits for it.
constexpr double kRoundMicroseconds = 5000;
constexpr double kMostTimes = 50;

// [rows, width] of normal numbers. A few rows of them, again and again: they are drawn on the host, and no figure
// depends on their being different.
at::Tensor Drawn(int64_t rows, int64_t width, at::TensorOptions options, std::string_view name) {
  at::Tensor few = at::empty({std::min<int64_t>(rows, 64), width}, at::kFloat);
  float* const numbers = few.data_ptr<float>();
  const uint64_t key = RandomKey(0, name);
  for (int64_t i = 0; i < few.numel(); ++i) numbers[i] = static_cast<float>(Normal(key, static_cast<uint64_t>(i)));
  few = few.to(options);
  at::Tensor all = at::empty({rows, width}, options);
  for (int64_t row = 0; row < rows; row += few.size(0)) {
    const int64_t count = std::min(few.size(0), rows - row);
    all.narrow(0, row, count).copy_(few.narrow(0, 0, count));
  }
  return all;
}

double Microseconds(Recorded& work, int64_t times, at::Device device) {
  Synchronise(device);
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < times; ++i) work.Replay();
  Synchronise(device);
  const std::chrono::duration<double, std::micro> passed = std::chrono::steady_clock::now() - start;
  return passed.count() / static_cast<double>(times);
}

double Time(AttentionKind kind, const kernels::Operations& ops, const PassPtr& pass, at::ScalarType type) {
  const at::Device device = pass->cosine.device();
  const at::TensorOptions options = at::TensorOptions(device).dtype(type);
  const int64_t tokens = pass->tokens(), width = (pass->heads + 2 * pass->kv_heads) * pass->head_dim;
  const at::Tensor qkv = Drawn(tokens, width, options, "qkv");
  const at::Tensor d_out = Drawn(tokens, pass->heads * pass->head_dim, options, "d_out");
  const at::Tensor d_qkv = at::empty({tokens, width}, options);
  const auto work = [&] {
    // Turns q and k once more each time, which leaves them as large as they were.
    const AttentionSaved saved = AttentionForward(kind, ops, qkv, pass);
    AttentionBackward(kind, ops, saved, d_out, pass, d_qkv);
  };
  // The first makes cuDNN's plan and loads code, which a recording must not.
  for (int i = 0; i < 2; ++i) work();
  const std::unique_ptr<Recorder> recorder = MakeRecorder(device);
  const std::unique_ptr<Recorded> recorded = recorder->Record(work);
  recorded->Replay();
  const double once = std::max(1.0, Microseconds(*recorded, 1, device));
  const auto times = static_cast<int64_t>(std::clamp(kRoundMicroseconds / once, 1.0, kMostTimes));
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRounds; ++i) least = std::min(least, Microseconds(*recorded, times, device));
  return least;
}

}  // namespace

double TimeAttention(AttentionKind kind, const kernels::Operations& ops, const PassPtr& pass, at::ScalarType type) {
  const at::NoGradGuard no_grad;
  // As the step runs it: PlannedStep::Compute.
  std::optional<at::AutoDispatchBelowADInplaceOrView> below;
  if (kind != AttentionKind::kReference) below.emplace();
  const double microseconds = Time(kind, ops, pass, type);
  // The step finds the allocator as if nothing had been measured.
  EmptyCache(pass->cosine.device());
  return microseconds;
}

}  // namespace studio::planned
