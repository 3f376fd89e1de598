#include "worker/trainer/libtorch/operations.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include "common/status/testing.h"

namespace studio::libtorch {
namespace {

// [rows, width] of numbers about 0, the same every time.
at::Tensor Numbers(at::IntArrayRef shape, double phase, at::ScalarType type = at::kFloat) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return (at::arange(count, at::kDouble) * 0.7 + phase).sin().reshape(shape).to(type);
}

double LargestDifference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

// By autograd, from the formula.
struct Norm {
  at::Tensor normed, d_x, d_weight;
};
Norm ReferenceNorm(const at::Tensor& x_in, const at::Tensor& weight_in, const at::Tensor& d, double eps) {
  const at::Tensor x = x_in.to(at::kDouble).requires_grad_(true),
                   weight = weight_in.to(at::kDouble).requires_grad_(true);
  const at::Tensor normed = x * (x.square().mean(1, true) + eps).rsqrt() * weight;
  const auto gradients = torch::autograd::grad({normed}, {x, weight}, {d.to(at::kDouble)});
  return {normed, gradients[0], gradients[1]};
}

TEST(FusedRmsNorm, IsTheFormulaAndItsGradients) {
  for (const auto& [type, tolerance] : {std::pair{at::kDouble, 1e-6}, {at::kFloat, 1e-5}, {at::kBFloat16, 5e-2}}) {
    const at::Tensor x = Numbers({5, 16}, 0.1, type), weight = Numbers({16}, 0.2, type) + 1.5;
    const at::Tensor d = Numbers({5, 16}, 0.3, type);
    const Norm expected = ReferenceNorm(x, weight, d, 1e-3);
    auto [normed, rstd] = FusedRmsNorm(x, weight, 1e-3);
    EXPECT_EQ(normed.scalar_type(), type);
    EXPECT_LE(LargestDifference(normed, expected.normed), tolerance) << type;
    auto [d_x, d_weight] = FusedRmsNormBackward(d, x, rstd, weight, /*weight_grad=*/true);
    EXPECT_LE(LargestDifference(d_x, expected.d_x), tolerance) << type;
    EXPECT_LE(LargestDifference(d_weight, expected.d_weight), 4 * tolerance) << type;
    EXPECT_FALSE(std::get<1>(FusedRmsNormBackward(d, x, rstd, weight, /*weight_grad=*/false)).defined());
  }
}

TEST(CpuFlashAttention, ServesHeadsThatShareKeys) {
  for (const int64_t kv_heads : {1, 2, 4}) {
    const at::Tensor q = Numbers({2, 4, 7, 8}, 0.1), k = Numbers({2, kv_heads, 7, 8}, 0.2);
    const at::Tensor v = Numbers({2, kv_heads, 7, 8}, 0.3), d_out = Numbers({2, 4, 7, 8}, 0.4);
    const at::Tensor rq = q.clone().requires_grad_(true), rk = k.clone().requires_grad_(true);
    const at::Tensor rv = v.clone().requires_grad_(true);
    const auto each = [&](const at::Tensor& x) { return x.repeat_interleave(4 / kv_heads, 1); };
    const at::Tensor later = at::ones({7, 7}).triu(1).to(at::kBool);
    const at::Tensor scores = (at::matmul(rq, each(rk).transpose(2, 3)) / std::sqrt(8.0)).masked_fill(later, -1e30);
    const at::Tensor expected = at::matmul(scores.softmax(-1), each(rv));
    const auto gradients = torch::autograd::grad({expected}, {rq, rk, rv}, {d_out});

    auto [out, log_sum] = CpuFlashAttention(q, k, v);
    EXPECT_LE(LargestDifference(out, expected), 1e-5) << kv_heads;
    auto [dq, dk, dv] = CpuFlashAttentionBackward(d_out, q, k, v, out, log_sum);
    EXPECT_LE(LargestDifference(dq, gradients[0]), 1e-5) << kv_heads;
    EXPECT_LE(LargestDifference(dk, gradients[1]), 1e-5) << kv_heads;
    EXPECT_LE(LargestDifference(dv, gradients[2]), 1e-5) << kv_heads;
  }
}

}  // namespace
}  // namespace studio::libtorch
