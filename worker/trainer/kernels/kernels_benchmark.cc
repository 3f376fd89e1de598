// How near each kernel comes to the device's memory: GB/s beside LibTorch's operations, at the shapes of a model with a
// billion weights and 16384 tokens a step.
//
//   kernels_benchmark [TOKENS [NAME]]     only rows whose name holds NAME
//
// Bytes are those that must move: each input read once, each output written once. The median of 30 runs, each over cold
// buffers: they are larger than the device's cache. The first line copies memory, the ceiling.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <c10/core/impl/InlineEvent.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/env/posix_env.h"
#include "worker/trainer/kernels/aten_operations.h"
#include "worker/trainer/kernels/cuda_operations.h"

namespace studio::kernels {
namespace {

const at::Device kDevice(at::kCUDA, 0);
constexpr int kRuns = 30;

// Median microseconds, between events on the stream.
double Microseconds(const std::function<void()>& body) {
  using Event = c10::impl::InlineEvent<c10::impl::VirtualGuardImpl>;
  const c10::impl::VirtualGuardImpl guard(at::kCUDA);
  const c10::Stream stream = guard.getStream(kDevice);
  for (int i = 0; i < 3; ++i) body();
  // All queued before any is waited for: the device is never idle between a begin and its end.
  std::vector<Event> begins, ends;
  begins.reserve(kRuns);
  ends.reserve(kRuns);
  for (int i = 0; i < kRuns; ++i) {
    begins.emplace_back(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT).record(stream);
    body();
    ends.emplace_back(at::kCUDA, c10::EventFlag::BACKEND_DEFAULT).record(stream);
  }
  ends.back().synchronize();
  std::vector<double> times;
  times.reserve(kRuns);
  for (int i = 0; i < kRuns; ++i) times.push_back(begins[i].elapsedTime(ends[i]) * 1e3);
  std::nth_element(times.begin(), times.begin() + kRuns / 2, times.end());
  return times[kRuns / 2];
}

class Table {
 public:
  Table(const Operations& ours, const Operations& aten, std::string filter)
      : ours_(ours), aten_(aten), filter_(std::move(filter)) {
    std::printf("%-44s %10s %10s %10s %8s\n", "operation", "us", "GB/s", "ATen us", "ratio");
  }
  void Row(const char* name, double bytes, const std::function<void(const Operations&)>& body) const {
    if (std::string_view(name).find(filter_) == std::string_view::npos) return;
    const double ours = Microseconds([&] { body(ours_); });
    const double aten = Microseconds([&] { body(aten_); });
    std::printf("%-44s %10.1f %10.0f %10.1f %8.2f\n", name, ours, bytes / ours * 1e-3, aten, aten / ours);
    std::fflush(stdout);
  }

 private:
  const Operations& ours_;
  const Operations& aten_;
  const std::string filter_;
};

at::Tensor Normal(at::IntArrayRef sizes, at::ScalarType type) {
  return at::randn(sizes, at::TensorOptions().device(kDevice).dtype(type));  // lint: allowed, nobody reads the numbers
}
at::Tensor Rows(int64_t rows, int64_t width, int64_t border = 64) {
  return Normal({rows, width + border}, at::kBFloat16).narrow(1, 0, width);
}
at::Tensor Floats(at::IntArrayRef sizes) { return Normal(sizes, at::kFloat); }
// Scattered over [0, end).
at::Tensor Integers(int64_t count, int64_t end) {
  return at::arange(count, at::TensorOptions().device(kDevice).dtype(at::kLong)).mul_(7919).remainder_(end);
}

void Norms(const Table& table, int64_t tokens, int64_t width) {
  const at::Tensor residual = Rows(tokens, width, 0), delta = Rows(tokens, width), normed = Rows(tokens, width);
  const at::Tensor weight = at::ones({width}, residual.options()), rstd = Floats({tokens}).abs();
  const at::Tensor d_weight = Floats({width}), d_residual = Rows(tokens, width);
  const double matrix = 2.0 * static_cast<double>(tokens * width);
  const std::string shape = " [" + std::to_string(tokens) + ", " + std::to_string(width) + "]";
  table.Row(("norm" + shape).c_str(), 2 * matrix,
            [&](const Operations& ops) { ops.RmsNormForward(residual, at::Tensor(), weight, 1e-5, normed, rstd); });
  table.Row(("add and norm" + shape).c_str(), 4 * matrix,
            [&](const Operations& ops) { ops.RmsNormForward(residual, delta, weight, 1e-5, normed, rstd); });
  table.Row(("norm backward" + shape).c_str(), 4 * matrix, [&](const Operations& ops) {
    ops.RmsNormBackward(delta, normed, weight, rstd, true, d_residual, at::Tensor());
  });
  table.Row(("norm backward, weight" + shape).c_str(), 4 * matrix, [&](const Operations& ops) {
    ops.RmsNormBackward(delta, normed, weight, rstd, true, d_residual, d_weight);
  });
}

void Rope(const Table& table, int64_t batch, int64_t length, int64_t heads, int64_t kv_heads, int64_t head_dim) {
  const int64_t tokens = batch * length, all = heads + 2 * kv_heads;
  const at::Tensor qkv = Rows(tokens, all * head_dim);
  const at::Tensor cosine = Floats({tokens, head_dim / 2}).cos(), sine = Floats({tokens, head_dim / 2}).sin();
  const auto attention = [&](int64_t count) {  // as cuDNN and FlashAttention lay it out
    return Normal({batch, length, count, head_dim}, at::kBFloat16).transpose(1, 2);
  };
  const at::Tensor dq = attention(heads), dk = attention(kv_heads), dv = attention(kv_heads);
  const double row = 2.0 * static_cast<double>(tokens * head_dim);
  const std::string shape =
      " " + std::to_string(heads) + "+2*" + std::to_string(kv_heads) + " x " + std::to_string(head_dim);
  table.Row(("rope" + shape).c_str(), 2 * row * static_cast<double>(heads + kv_heads),
            [&](const Operations& ops) { ops.RopeInPlace(qkv, cosine, sine, heads + kv_heads, head_dim, 1); });
  table.Row(("rope backward and gather" + shape).c_str(), 2 * row * static_cast<double>(all),
            [&](const Operations& ops) { ops.RopeBackwardGather(dq, dk, dv, cosine, sine, qkv); });
}

void Glu(const Table& table, int64_t tokens, int64_t width) {
  const at::Tensor gate_up = Rows(tokens, 2 * width), out = Rows(tokens, width), d_out = Rows(tokens, width, 0);
  const double matrix = 2.0 * static_cast<double>(tokens * width);
  const std::string shape = " [" + std::to_string(tokens) + ", 2 * " + std::to_string(width) + "]";
  table.Row(("swiglu" + shape).c_str(), 3 * matrix,
            [&](const Operations& ops) { ops.GluForward(Activation::kSilu, gate_up, out); });
  table.Row(("swiglu backward" + shape).c_str(), 5 * matrix,
            [&](const Operations& ops) { ops.GluBackward(Activation::kSilu, d_out, gate_up, at::Tensor()); });
  table.Row(("swiglu backward and output" + shape).c_str(), 6 * matrix,
            [&](const Operations& ops) { ops.GluBackward(Activation::kSilu, d_out, gate_up, out); });
}

void Adapters(const Table& table, int64_t tokens, int64_t width) {
  const int64_t rank = 16;
  const at::Tensor gate_up = Rows(tokens, 2 * width), d_out = Rows(tokens, width, 0), low = Rows(tokens, 3 * rank);
  const at::Tensor down_a = Floats({rank, width}), gate_b = Floats({width, rank}), up_b = Floats({width, rank});
  const GluAdapters adapters{
      low.narrow(1, 0, rank), low.narrow(1, rank, rank), low.narrow(1, 2 * rank, rank), down_a, gate_b, up_b};
  const at::Tensor out = Rows(tokens, width), a = Rows(rank, width);
  const std::string shape = "[" + std::to_string(tokens) + ", 2 * " + std::to_string(width) + "]";
  table.Row(("swiglu, adapter " + shape).c_str(), 3 * 2.0 * static_cast<double>(tokens * width),
            [&](const Operations& ops) {
              ops.GluForwardWithAdapter(Activation::kSilu, gate_up, a, /*dropout=*/{}, out, low.narrow(1, 0, rank));
            });
  table.Row(("swiglu backward, adapters " + shape).c_str(), 5 * 2.0 * static_cast<double>(tokens * width),
            [&](const Operations& ops) { ops.GluBackwardWithAdapters(Activation::kSilu, d_out, gate_up, adapters); });
}

void Loss(const Table& table, int64_t rows, int64_t vocab) {
  const at::Tensor logits = Rows(rows, vocab, 0), losses = Floats({rows});
  const at::Tensor labels = Integers(rows, vocab), scale = Floats({});
  const std::string name = "cross entropy [" + std::to_string(rows) + ", " + std::to_string(vocab) + "]";
  table.Row(name.c_str(), 2 * 2.0 * static_cast<double>(rows * vocab),
            [&](const Operations& ops) { ops.CrossEntropyInPlace(logits, labels, scale, /*soft_cap=*/0, losses); });
}

void Optimizer(const Table& table, int64_t tokens) {
  const int64_t count = int64_t{1} << 28, vocab = 128256, width = 2048;
  {
    const at::Tensor weights = Floats({count}), grad = Floats({count}), exp_avg = Floats({count}), squares = Floats({});
    const at::Tensor exp_avg_sq = Floats({count}).abs();
    const auto n = static_cast<double>(count);
    table.Row("sum of squares, 2^28", 4 * n, [&](const Operations& ops) { ops.SumOfSquares(grad, squares); });
    table.Row("AdamW, 2^28", 28 * n, [&](const Operations& ops) {
      ops.AdamWStep({{weights, grad, exp_avg, exp_avg_sq}}, squares, {.max_grad_norm = 1}, 1e-4, 7);
    });
  }
  {
    const at::Tensor weights = Normal({count}, at::kBFloat16), grad = Normal({count}, at::kBFloat16);
    const at::Tensor exp_avg = Normal({count}, at::kBFloat16), exp_avg_sq = weights.abs(), squares = Floats({});
    const auto n = static_cast<double>(count);
    table.Row("sum of squares bf16, 2^28", 2 * n, [&](const Operations& ops) { ops.SumOfSquares(grad, squares); });
    table.Row("AdamW bf16 by chance, 2^28", 14 * n, [&](const Operations& ops) {
      ops.AdamWStepByChance({weights, grad, exp_avg, exp_avg_sq}, squares, {.max_grad_norm = 1}, 1e-4, 7, 5, 0);
    });
  }
  const at::Tensor d_hidden = Rows(tokens, width), grad = Floats({vocab, width});
  const at::Tensor ids = Integers(tokens, vocab / 8);
  // Rows of the gradient that are touched, read and written: 7919 is a prime, so all until they come again.
  const auto touched = static_cast<double>(std::min(tokens, vocab / 8));
  table.Row("embedding gradient", 2.0 * static_cast<double>(tokens * width) + touched * 8 * width,
            [&](const Operations& ops) { ops.EmbeddingGradient(d_hidden, ids, grad); });
}

int Main(int64_t tokens, const std::string& filter) {
  PosixEnv env;
  CubinCache cache(env, DefaultKernelFolder());
  const auto ours = MakeCudaOperations(kDevice, cache);
  if (!ours.ok()) {
    std::cerr << "kernels_benchmark: " << ours.status() << "\n";
    return 1;
  }
  const std::unique_ptr<Operations> aten = MakeAtenOperations();
  {
    const at::Tensor from = Rows(tokens, 16384, 0), to = Rows(tokens, 16384, 0);
    const double us = Microseconds([&] { at::Tensor(to).copy_(from); });
    std::printf("%s; a copy moves %.0f GB/s, read and written\n", (*ours)->name().c_str(),
                4.0 * static_cast<double>(from.numel()) / us * 1e-3);
  }
  const Table table(**ours, *aten, filter);
  Norms(table, tokens, 2048);
  Norms(table, tokens, 4096);
  Rope(table, tokens / 2048, 2048, 32, 8, 64);
  Rope(table, tokens / 2048, 2048, 32, 8, 128);
  Glu(table, tokens, 8192);
  Adapters(table, tokens, 8192);
  Adapters(table, tokens / 4, 14336);
  Loss(table, 2048, 128256);
  Loss(table, 2048, 151936);
  Loss(table, 4096, 49152);
  Loss(table, 4096, 32000);
  Optimizer(table, tokens);
  return 0;
}

}  // namespace
}  // namespace studio::kernels

int main(int argc, char** argv) {
  const int64_t tokens = argc > 1 ? std::atoll(argv[1]) : 16384;
  if (tokens < 2048 || tokens % 2048 != 0) {
    std::cerr << "kernels_benchmark: TOKENS " << argv[1] << " is no multiple of 2048\n";
    return 2;
  }
  return studio::kernels::Main(tokens, argc > 2 ? argv[2] : "");
}
