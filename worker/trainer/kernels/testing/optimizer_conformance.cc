#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>

#include <bit>
#include <cmath>
#include <limits>

#include "worker/trainer/kernels/testing/conformance.h"
#include "worker/trainer/model/counter_random.h"
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
  std::vector<AdamWPart> parts;
  for (const auto& [begin, length] : {std::pair{int64_t{0}, decayed}, {decayed, plain}}) {
    const auto part = [&, begin = begin, length = length](const at::Tensor& x) { return x.narrow(0, begin, length); };
    parts.push_back({part(weights), part(grad), part(exp_avg), part(exp_avg_sq), begin == 0});
  }
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
    ops().AdamWStep(parts, squares, {0.9, 0.95, 1e-8, 0.1, 2.0}, 0.01, step);
    EXPECT_TRUE(at::equal(grad, kept)) << "the gradient itself stays";
    EXPECT_LE(Difference(weights.narrow(0, 0, decayed), matrix), 3e-7) << "step " << step;
    EXPECT_LE(Difference(weights.narrow(0, decayed, plain), bias), 3e-7) << "step " << step;
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
  ops().AdamWStep({{weights, grad, exp_avg, exp_avg_sq}}, squares, {0.9, 0.999, 1e-8, 0, 0}, 0.1, 1);
  ops().AdamWStep({}, squares, {}, 0.1, 1);
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
    ops().AdamWStep({{weights, grad, exp_avg, exp_avg_sq}}, squares, {0.9, 0.999, 1e-8, 0.1, 1}, 0.1, 1);
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

AdamWPart Of(const AdamWPart& part, at::ScalarType type) {
  const auto copy = [&](const at::Tensor& x) { return x.to(type, false, true); };
  return {copy(part.weights), copy(part.grad), copy(part.exp_avg), copy(part.exp_avg_sq)};
}

constexpr AdamWOptions kByChance = {0.9, 0.999, 1e-8, 0.1, 2.0};

TEST_P(OperationsTest, AdamWByChanceRoundsToANeighbourByItsOwnBits) {
  for (const int64_t count : {1, 7, 4096, 4099}) {
    const AdamWPart drawn{Normal({count}), Normal({count}), Normal({count}) * 0.1, Normal({count}).square() * 0.01};
    const AdamWPart state = Of(drawn, at::kBFloat16), again = Of(state, at::kBFloat16),
                    shifted = Of(state, at::kBFloat16);
    const AdamWPart exact = Of(state, at::kFloat);
    const at::Tensor squares = Floats({}, 0);
    ops().SumOfSquares(state.grad, squares);
    EXPECT_NEAR(squares.item<double>(), Exact(state.grad).square().sum().item<double>(), 1e-5 * squares.item<double>());
    const auto step = [&](const AdamWPart& part, uint64_t first) {
      ops().AdamWStepByChance(part, squares, kByChance, 1e-3, 9, 77, first);
    };
    step(state, 1000);
    step(again, 1000);
    step(shifted, 1001);
    ops().AdamWStep({exact}, squares, kByChance, 1e-3, 9);
    int64_t moved = 0;
    const std::pair<at::Tensor, at::Tensor> pairs[] = {
        {state.weights, exact.weights}, {state.exp_avg, exact.exp_avg}, {state.exp_avg_sq, exact.exp_avg_sq}};
    for (size_t which = 0; which < 3; ++which) {
      const at::Tensor got = pairs[which].first.to(at::kFloat).cpu(), wide = pairs[which].second.cpu().contiguous();
      for (int64_t i = 0; i < count; ++i) {
        const uint32_t bits = RandomBits(77, 1000 + static_cast<uint64_t>(i)) >> (16 * which) & 0xffff;
        const uint32_t raw = std::bit_cast<uint32_t>(wide[i].item<float>());
        const auto rounded = std::bit_cast<float>((raw + bits) & 0xffff0000u);
        const double ulp =
            std::abs(std::bit_cast<float>((raw & 0xffff0000u) + 0x10000u) - std::bit_cast<float>(raw & 0xffff0000u));
        // The next bf16 but one would be two away; where fp32 rounds otherwise a carry may differ, which is rare.
        ASSERT_LE(std::abs(got[i].item<float>() - wide[i].item<float>()), 1.001 * ulp) << which << ", " << i;
        moved += got[i].item<float>() != rounded;
      }
    }
    EXPECT_LE(moved, 1 + count / 100);
    EXPECT_TRUE(at::equal(state.weights, again.weights) && at::equal(state.exp_avg, again.exp_avg) &&
                at::equal(state.exp_avg_sq, again.exp_avg_sq));
    EXPECT_TRUE(count < 1000 || !at::equal(state.weights, shifted.weights)) << "other counters, other bits";
  }
}

TEST_P(OperationsTest, AdamWByChanceMovesWhatRoundingToTheNearestWouldHold) {
  // Each step asks for 1/64 of a weight's last place; exp_avg_sq falls by a thousandth, which is less than half of its.
  const int64_t count = 8192;
  const auto bf16 = [&](double value) { return Floats({count}, value).to(at::kBFloat16); };
  const at::Tensor weights = bf16(1), grad = bf16(0.001), exp_avg = bf16(0.001), exp_avg_sq = bf16(1);
  const at::Tensor squares = Floats({}, 1);
  const double learning_rate = 0x1p-13 * 1000;
  const AdamWOptions options = {0.9, 0.999, 0, 0, 0};
  for (int step = 0; step < 64; ++step) {
    // A step of 100,000: no bias correction is left.
    ops().AdamWStepByChance({weights, grad, exp_avg, exp_avg_sq}, squares, options, learning_rate, 100000,
                            static_cast<uint64_t>(step) + 1, 0);
  }
  const double decayed = std::pow(0.999, 64);
  EXPECT_NEAR(exp_avg_sq.to(at::kFloat).mean().item<double>(), decayed, 0.002);
  // The sum of 64 steps of learning_rate * 0.001 / sqrt(exp_avg_sq), which is about 1 / 1.016 on the way.
  EXPECT_NEAR(1 - weights.to(at::kFloat).mean().item<double>(), 64 * 0x1p-13 * 1.016, 64 * 0x1p-13 * 0.02);
}

TEST_P(OperationsTest, AdamWByChanceChangesNothingWhereTheNormIsNotFinite) {
  const auto bf16 = [&](double value) { return Floats({100}, value).to(at::kBFloat16); };
  const at::Tensor weights = bf16(1), grad = bf16(0.5), exp_avg = bf16(2), exp_avg_sq = bf16(3);
  ops().AdamWStepByChance({weights, grad, exp_avg, exp_avg_sq}, Floats({}, std::numeric_limits<double>::quiet_NaN()),
                          kByChance, 0.1, 1, 5, 0);
  EXPECT_TRUE(at::equal(weights, bf16(1)) && at::equal(exp_avg, bf16(2)) && at::equal(exp_avg_sq, bf16(3)));
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
