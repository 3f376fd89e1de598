#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rsqrt.h>

#include "worker/trainer/kernels/testing/conformance.h"

namespace studio::kernels {
namespace {

constexpr double kEps = 1e-5;

struct Shape {
  int64_t rows, width, border;
};
// One row, widths that no wide access divides, borders that misalign every second row, rows of one block's registers
// (8192 of bf16), of two accesses a thread, and of more than any kernel takes.
constexpr Shape kShapes[] = {{1, 64, 0},    {7, 24, 8},    {300, 2048, 64}, {5, 130, 3},
                             {3, 5000, 16}, {2, 12000, 0}, {3, 77, 0},      {2, 20000, 8}};

at::Tensor ExactNorm(const at::Tensor& x, const at::Tensor& weight) {
  return x * at::rsqrt(x.square().mean(1, /*keepdim=*/true) + kEps) * weight;
}

TEST_P(OperationsTest, NormAddsToTheResidualAndNormalises) {
  for (const auto& [rows, width, border] : kShapes) {
    for (const bool add : {false, true}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << width << " + " << border << (add ? ", delta" : ""));
      const at::Tensor residual = NormalRows(rows, width, border), weight = Normal({width});
      const at::Tensor delta = add ? NormalRows(rows, width, border) : at::Tensor();
      const at::Tensor normed = EmptyRows(rows, width, border), rstd = Floats({rows}, -1);
      const at::Tensor expected = add ? Exact(residual) + Exact(delta) : Exact(residual);
      ops().RmsNormForward(residual, delta, weight, kEps, normed, rstd);
      if (add) {
        ExpectClose(residual, expected, 1e-7, 3e-3, "residual");
      } else {
        EXPECT_TRUE(at::equal(Exact(residual), expected));
      }
      const at::Tensor x = Exact(residual);
      ExpectClose(normed, ExactNorm(x, Exact(weight)), 1e-6, 5e-3, "normed");
      // fp32 whatever the type.
      const at::Tensor exact_rstd = at::rsqrt(x.square().mean(1) + kEps);
      EXPECT_LE(((Exact(rstd) - exact_rstd) / exact_rstd).abs().max().item<double>(), 1e-6);
      for (const at::Tensor& x : {residual, normed}) ExpectBorderKept(x, "norm forward");
    }
  }
}

// As Transformers: the normed value is rounded before it meets the weight.
TEST_P(OperationsTest, NormRoundsWhereTransformersRounds) {
  const at::Tensor residual = Normal({64, 256}), weight = Normal({256});
  const at::Tensor normed = EmptyRows(64, 256, 0), rstd = Floats({64}, 0);
  ops().RmsNormForward(residual, at::Tensor(), weight, kEps, normed, rstd);
  const at::Tensor wide = residual.to(at::kFloat);
  const at::Tensor x_hat = (wide * rstd.unsqueeze(1)).to(residual.scalar_type());
  EXPECT_TRUE(at::equal(normed, (x_hat.to(at::kFloat) * weight.to(at::kFloat)).to(residual.scalar_type())));
}

TEST_P(OperationsTest, NormGradientsAgreeWithAutograd) {
  for (const auto& [rows, width, border] : kShapes) {
    for (const bool accumulate : {false, true}) {
      for (const bool train : {false, true}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << width << " + " << border << (accumulate ? ", add" : "")
                                        << (train ? ", weight" : ""));
        const at::Tensor residual = NormalRows(rows, width, border), weight = Normal({width});
        const at::Tensor normed = EmptyRows(rows, width, border), rstd = Floats({rows}, 0);
        ops().RmsNormForward(residual, at::Tensor(), weight, kEps, normed, rstd);
        const at::Tensor d_normed = NormalRows(rows, width, border);
        const at::Tensor d_residual = accumulate ? NormalRows(rows, width, border) : EmptyRows(rows, width, border);
        const at::Tensor before = accumulate ? Exact(d_residual) : at::Tensor();
        const at::Tensor d_weight = train ? Floats({width}, 0.5) : at::Tensor();
        ops().RmsNormBackward(d_normed, normed, weight, rstd, accumulate, d_residual, d_weight);

        const at::Tensor x = ExactLeaf(residual), w = ExactLeaf(weight);
        ExactNorm(x, w).backward(Exact(d_normed));
        ExpectClose(d_residual, accumulate ? x.grad() + before : x.grad(), 2e-6, 6e-3, "d_residual");
        if (train) ExpectClose(d_weight, w.grad() + 0.5, 2e-6, 6e-3, "d_weight");
        for (const at::Tensor& x : {d_residual, d_normed, normed}) ExpectBorderKept(x, "norm backward");
      }
    }
  }
}

// x_hat comes back out of normed / weight, so a weight of 0 must not lose it.
TEST_P(OperationsTest, NormGradientsSurviveWeightsOfZero) {
  const at::Tensor residual = Normal({40, 64}), weight = Normal({64}).mul_(0);
  weight[3] = 2;
  weight[4] = 1e-30;
  weight[5] = -1e-25;
  weight[6] = -0.0;
  const at::Tensor normed = EmptyRows(40, 64, 0), rstd = Floats({40}, 0);
  ops().RmsNormForward(residual, at::Tensor(), weight, kEps, normed, rstd);
  ExpectClose(normed, ExactNorm(Exact(residual), Exact(weight)), 1e-6, 5e-3, "normed");
  const at::Tensor d_normed = Normal({40, 64}), d_residual = EmptyRows(40, 64, 0), d_weight = Floats({64}, 0);
  ops().RmsNormBackward(d_normed, normed, weight, rstd, false, d_residual, d_weight);
  const at::Tensor x = ExactLeaf(residual), w = ExactLeaf(weight);
  ExactNorm(x, w).backward(Exact(d_normed));
  ExpectClose(d_residual, x.grad(), 2e-6, 6e-3, "d_residual");
  ExpectClose(d_weight, w.grad(), 2e-6, 6e-3, "d_weight");
}

TEST_P(OperationsTest, NormWeightGradientIsTheSameEachTime) {
  const at::Tensor residual = Normal({3000, 512}), weight = Normal({512}), d_normed = Normal({3000, 512});
  const at::Tensor normed = EmptyRows(3000, 512, 0), rstd = Floats({3000}, 0), d_residual = EmptyRows(3000, 512, 0);
  ops().RmsNormForward(residual, at::Tensor(), weight, kEps, normed, rstd);
  const at::Tensor first = Floats({512}, 0), second = Floats({512}, 0);
  for (const at::Tensor& d_weight : {first, second}) {
    ops().RmsNormBackward(d_normed, normed, weight, rstd, false, d_residual, d_weight);
  }
  EXPECT_TRUE(at::equal(first, second));
}

TEST_P(OperationsTest, NormKeepsNanInItsRow) {
  const at::Tensor residual = Normal({3, 64}), weight = Normal({64});
  residual[1][5] = std::numeric_limits<double>::quiet_NaN();
  const at::Tensor normed = EmptyRows(3, 64, 0), rstd = Floats({3}, 0);
  ops().RmsNormForward(residual, at::Tensor(), weight, kEps, normed, rstd);
  EXPECT_TRUE(normed[1].isnan().all().item<bool>());
  EXPECT_FALSE(normed[0].isnan().any().item<bool>());
  EXPECT_FALSE(normed[2].isnan().any().item<bool>());
}

}  // namespace
}  // namespace studio::kernels
