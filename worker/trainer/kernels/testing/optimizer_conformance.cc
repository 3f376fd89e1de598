#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include <cmath>
#include <limits>

#include "worker/trainer/kernels/testing/conformance.h"
#include "worker/trainer/optim/adamw.h"
#include "worker/trainer/optim/clip.h"

namespace studio::kernels {
namespace {

// Relative to the largest number, as fp32 rounding is.
double Difference(const at::Tensor& a, const at::Tensor& b) {
  return ((Exact(a) - Exact(b)).abs().max() / Exact(b).abs().max()).item<double>();
}

TEST_P(OperationsTest, AdamWAgreesWithTheOptimizerOverClippedSteps) {
  // A decayed range and a plain one, in one flat buffer; neither a multiple of four long.
  const int64_t decayed = 4099, plain = 30, count = decayed + plain;
  const at::Tensor start = Normal({count}).to(at::kFloat);
  const at::Tensor weights = start.clone(), grad = Floats({count}, 0);
  const at::Tensor exp_avg = Floats({count}, 0), exp_avg_sq = Floats({count}, 0), squares = Floats({}, 0);
  const at::Tensor copy = EmptyRows(1, count, 0).squeeze(0);
  const at::Tensor matrix = start.to(at::kCPU).narrow(0, 0, decayed).clone().requires_grad_(true);
  const at::Tensor bias = start.to(at::kCPU).narrow(0, decayed, plain).clone().requires_grad_(true);
  AdamW reference({{"matrix", matrix, true}, {"bias", bias, false}}, {0.9, 0.95, 1e-8, 0.1});
  for (int step = 1; step <= 5; ++step) {
    // Norms on both sides of the limit.
    grad.copy_(Normal({count}).to(at::kFloat) * (step == 3 ? 1e-3 : 0.1 * step));
    matrix.mutable_grad().copy_(grad.narrow(0, 0, decayed));
    bias.mutable_grad().copy_(grad.narrow(0, decayed, plain));
    const at::Tensor kept = grad.clone();
    const double norm = ClipGradNorm(reference.grads(), 2.0).item<double>();
    reference.Step(0.01);
    ops().SumOfSquares(grad, squares);
    EXPECT_NEAR(std::sqrt(squares.item<double>()), norm, 1e-6 * norm);
    for (const auto& [begin, length, decay] : {std::tuple{int64_t{0}, decayed, 0.1}, {decayed, plain, 0.0}}) {
      const auto part = [&, begin = begin, length = length](const at::Tensor& x) { return x.narrow(0, begin, length); };
      ops().AdamWStep(part(weights), part(grad), part(exp_avg), part(exp_avg_sq), squares,
                      {0.9, 0.95, 1e-8, decay, 2.0}, 0.01, step, part(copy));
    }
    EXPECT_TRUE(at::equal(grad, kept)) << "the gradient itself stays";
    EXPECT_LE(Difference(weights.narrow(0, 0, decayed), matrix), 3e-7) << "step " << step;
    EXPECT_LE(Difference(weights.narrow(0, decayed, plain), bias), 3e-7) << "step " << step;
    EXPECT_TRUE(at::equal(copy, weights.to(GetParam().type))) << "step " << step;
  }
  const auto state = reference.State();
  EXPECT_LE(Difference(exp_avg.narrow(0, 0, decayed), state[1].second), 1e-6);
  // The clipping factor enters squared, so that what the norms may differ by counts twice.
  EXPECT_LE(Difference(exp_avg_sq.narrow(0, 0, decayed), state[2].second), 2e-6);
}

TEST_P(OperationsTest, AdamWWithoutALimitDoesNotClip) {
  const at::Tensor weights = Floats({64}, 1), grad = Floats({64}, 100), squares = Floats({}, 0);
  const at::Tensor exp_avg = Floats({64}, 0), exp_avg_sq = Floats({64}, 0);
  ops().SumOfSquares(grad, squares);
  ops().AdamWStep(weights, grad, exp_avg, exp_avg_sq, squares, {0.9, 0.999, 1e-8, 0, 0}, 0.1, 1, at::Tensor());
  EXPECT_NEAR(exp_avg[0].item<double>(), 10, 1e-5);
  EXPECT_NEAR(weights[63].item<double>(), 0.9, 1e-6);  // a first step is of the learning rate's size
}

TEST_P(OperationsTest, AdamWChangesNothingWhereTheNormIsNotFinite) {
  for (const double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    const at::Tensor weights = Floats({100}, 1), grad = Floats({100}, 0.5), squares = Floats({}, 0);
    const at::Tensor exp_avg = Floats({100}, 2), exp_avg_sq = Floats({100}, 3);
    grad[40] = bad;
    ops().SumOfSquares(grad, squares);
    EXPECT_FALSE(std::isfinite(squares.item<double>()));
    ops().AdamWStep(weights, grad, exp_avg, exp_avg_sq, squares, {0.9, 0.999, 1e-8, 0.1, 1}, 0.1, 1, at::Tensor());
    EXPECT_TRUE(at::equal(weights, Floats({100}, 1)));
    EXPECT_TRUE(at::equal(exp_avg, Floats({100}, 2)));
    EXPECT_TRUE(at::equal(exp_avg_sq, Floats({100}, 3)));
  }
}

TEST_P(OperationsTest, SumOfSquaresTakesAnyLengthAndStart) {
  const at::Tensor flat = Normal({300001}).to(at::kFloat);
  for (const auto& [begin, length] : {std::pair<int64_t, int64_t>{0, 300001}, {1, 300000}, {3, 1}, {2, 2}, {5, 4096}}) {
    const at::Tensor part = flat.narrow(0, begin, length), sum = Floats({}, -1), again = Floats({}, -1);
    ops().SumOfSquares(part, sum);
    ops().SumOfSquares(part, again);
    const double expected = Exact(part).square().sum().item<double>();
    EXPECT_NEAR(sum.item<double>(), expected, 2e-6 * expected) << begin << ", " << length;
    EXPECT_TRUE(at::equal(sum, again));
  }
}

TEST_P(OperationsTest, ScaledCopiesLandInTheirRows) {
  std::vector<ScaledCopy> copies;
  const int64_t shapes[][2] = {{16, 2048}, {2048, 16}, {1, 1}, {3, 7}, {5, 64}};
  for (const auto& [rows, width] : shapes) {
    copies.push_back({Normal({rows, width}).to(at::kFloat), EmptyRows(rows, width, 24), copies.size() % 2 ? 2.5 : 1.0});
  }
  ops().CopyScaled(copies);
  for (const auto& [from, to, scale] : copies) {
    EXPECT_TRUE(at::equal(to, (from * scale).to(GetParam().type))) << to.sizes();
    ExpectBorderKept(to, "scaled copy");
  }
  ops().CopyScaled({});
}

}  // namespace
}  // namespace studio::kernels
