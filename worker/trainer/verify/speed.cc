#include "worker/trainer/verify/speed.h"

#include <ATen/Context.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>

#include <chrono>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status/macros.h"
#include "worker/trainer/model/torch_status.h"

namespace studio {
namespace {

constexpr double kLeastSeconds = 0.5;
// A product of this size that takes longer than kSlowSeconds would take 64 times as long at 1024.
constexpr int64_t kSmallProduct = 256;
constexpr double kSlowSeconds = 0.1;

// Reading one number waits for all that was queued before it, on every backend.
void WaitFor(const at::Tensor& tensor) { (void)tensor.view(-1)[0].item<float>(); }

// Seconds of one `work`, which returns what it wrote; the first run, which also warms up, is not counted.
double SecondsOf(absl::FunctionRef<at::Tensor()> work, double least_seconds = kLeastSeconds) {
  using Clock = std::chrono::steady_clock;
  WaitFor(work());
  int runs = 0;
  const Clock::time_point start = Clock::now();
  double seconds = 0;
  do {
    const int more = runs == 0 ? 1 : runs;
    at::Tensor last;
    for (int i = 0; i < more; ++i) last = work();
    WaitFor(last);
    runs += more;
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  } while (seconds < least_seconds);
  return seconds / runs;
}

}  // namespace

absl::StatusOr<std::string> MeasureProduct(at::Device device, at::ScalarType type) {
  int64_t size = device.is_cpu() ? 1024 : 8192;
  double seconds = 0;
  // Each entry is the sum of `size` ones: exact in every type, as sums are kept in float32.
  float entry = 0;
  RETURN_IF_ERROR(CatchTorch([&] {
    const auto ones = [&] { return at::full({size, size}, 1, at::TensorOptions(device).dtype(type)); };
    if (device.is_cpu()) {
      // An emulated CPU, or one without instructions for the type, would take minutes for the full size.
      const int64_t full = std::exchange(size, kSmallProduct);
      if (SecondsOf([square = ones()] { return at::matmul(square, square); }, 0) < kSlowSeconds) size = full;
    }
    at::Tensor product;
    seconds = SecondsOf([&, square = ones()] { return product = at::matmul(square, square); });
    entry = product[size - 1][size - 1].item<float>();
  }));
  if (entry != static_cast<float>(size)) {
    return absl::InternalError(absl::StrCat("the sum of ", size, " ones came out as ", entry));
  }
  const double flops =
      2.0 * static_cast<double>(size) * static_cast<double>(size) * static_cast<double>(size) / seconds;
  return absl::StrFormat("%.3g TFLOP/s (%d × %d × %d)", flops / 1e12, size, size, size);
}

absl::StatusOr<std::string> MeasureCopy(at::Device device) {
  // Beyond any cache.
  constexpr int64_t kBytes = int64_t{512} << 20;
  double seconds = 0;
  RETURN_IF_ERROR(CatchTorch([&] {
    const at::Tensor from = at::full({kBytes / 4}, 1, at::TensorOptions(device).dtype(at::kFloat));
    at::Tensor to = from.clone();
    seconds = SecondsOf([&] { return to.copy_(from); });
  }));
  return absl::StrFormat("%.3g GB/s copied (read and write)", 2.0 * kBytes / seconds / 1e9);
}

}  // namespace studio
