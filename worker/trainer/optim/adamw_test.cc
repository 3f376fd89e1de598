#include "worker/trainer/optim/adamw.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/trainer/kernels/aten_operations.h"
#include "worker/trainer/optim/clip.h"
#include "worker/trainer/optim/kernel_adamw.h"

namespace studio {
namespace {

at::Tensor Matrix(std::vector<float> values) { return at::tensor(values).reshape({2, 2}); }
at::Tensor Leaf(at::Tensor tensor) { return tensor.set_requires_grad(true); }

// Expected values: torch 2.11, AdamW(lr 0.01, betas (0.9, 0.95)), weight decay 0.1 on the matrix, clip 0.75.
TEST(AdamW, AgreesWithTorchOverThreeClippedSteps) {
  const at::Tensor matrix = Leaf(Matrix({0.5, -1.25, 2.0, 0.125})), bias = Leaf(at::tensor({1.0f, -0.5f}));
  AdamW optimizer({{"matrix", matrix, true}, {"bias", bias, false}}, {0.9, 0.95, 1e-8, 0.1});
  const double norms[] = {1.1789826154708862, 0.9340771436691284, 1.182746410369873};
  const at::Tensor matrices[] = {
      Matrix({0.4895000159740448, -1.2387499809265137, 1.9880000352859497, 0.12487500160932541}),
      Matrix({0.47970980405807495, -1.2282105684280396, 1.976711392402649, 0.12475012987852097}),
      Matrix({0.46973901987075806, -1.2174912691116333, 1.9652435779571533, 0.12462538480758667})};
  const at::Tensor biases[] = {at::tensor({1.0099999904632568f, -0.5099999904632568f}),
                               at::tensor({1.0196911096572876f, -0.5196911692619324f}),
                               at::tensor({1.0287275314331055f, -0.528727650642395f})};
  for (int i = 0; i < 3; ++i) {
    optimizer.ZeroGrads();
    matrix.mutable_grad().copy_(Matrix({0.1, -0.2, 0.3, 0.0}) * (i + 1));
    bias.mutable_grad().copy_(at::tensor({-1.0f, 0.5f}) / (i + 1));
    EXPECT_NEAR(ClipGradNorm(optimizer.grads(), 0.75).item<double>(), norms[i], 1e-6);
    optimizer.Step(0.01);
    EXPECT_TRUE(at::allclose(matrix, matrices[i], 0, 2e-7)) << "step " << i << "\n" << matrix;
    EXPECT_TRUE(at::allclose(bias, biases[i], 0, 2e-7)) << "step " << i << "\n" << bias;
  }
}

TEST(AdamW, LetsTheBackwardPassAddToItsOwnGradients) {
  const at::Tensor weight = Leaf(at::tensor({3.0f, 4.0f}));
  AdamW optimizer({{"weight", weight}}, {});
  const void* memory = optimizer.grads()[0].data_ptr();
  for (int micro = 0; micro < 2; ++micro) {
    (weight * weight).sum().backward();
  }
  EXPECT_EQ(weight.grad().data_ptr(), memory);
  EXPECT_TRUE(at::equal(optimizer.grads()[0], at::tensor({12.0f, 16.0f})));
  optimizer.ZeroGrads();
  EXPECT_TRUE(at::equal(weight.grad(), at::tensor({0.0f, 0.0f})));
}

TEST(AdamW, LetsCopiesOfAWeightNoticeTheUpdate) {
  const at::Tensor weight = Leaf(at::tensor({1.0f}));
  AdamW optimizer({{"weight", weight}}, {});
  const int64_t version = weight._version();
  optimizer.Step(0.1);
  EXPECT_GT(weight._version(), version);
}

TEST(AdamW, GoesOnBitForBitFromARestoredState) {
  auto grad = [](int step) { return at::tensor({0.3f + step, -0.7f / (1 + step)}); };
  auto train = [&](AdamW& optimizer, const at::Tensor& weight, int from, int to) {
    for (int step = from; step < to; ++step) {
      weight.mutable_grad().copy_(grad(step));
      optimizer.Step(0.01);
    }
  };
  const at::Tensor whole = Leaf(at::tensor({1.0f, 2.0f})), first = Leaf(at::tensor({1.0f, 2.0f}));
  const at::Tensor second = Leaf(at::tensor({9.0f, 9.0f}));
  AdamW uninterrupted({{"w", whole}}, {}), before({{"w", first}}, {}), after({{"w", second}}, {});
  train(uninterrupted, whole, 0, 6);
  train(before, first, 0, 3);
  const auto from = before.State(), to = after.State();
  for (size_t i = 0; i < to.size(); ++i) to[i].second.copy_(from[i].second);
  after.set_steps(before.steps());
  train(after, second, 3, 6);
  EXPECT_TRUE(at::equal(whole, second));
}

// The same problem in both types: what bf16 loses it loses without a direction.
TEST(KernelAdamW, GoesWhereFp32Goes) {
  const auto make = [](at::ScalarType type) { return Leaf(at::full({64, 64}, 0.5, type)); };
  const at::Tensor wide = make(at::kFloat), narrow = make(at::kBFloat16);
  AdamW exact({{"w", wide}}, {0.9, 0.999, 1e-8, 0.1});
  KernelAdamW rounded({{"w", narrow}}, {0.9, 0.999, 1e-8, 0.1}, kernels::MakeAtenOperations());
  for (int step = 0; step < 40; ++step) {
    for (const auto& [optimizer, weight] :
         {std::pair<Optimizer*, at::Tensor>(&exact, wide), std::pair<Optimizer*, at::Tensor>(&rounded, narrow)}) {
      optimizer->ZeroGrads();
      weight.mutable_grad().copy_(weight.detach() + 0.1 * step);
      // A twentieth of a weight's last place: to the nearest, none would ever move.
      const double norm = optimizer->ClipAndStep(1e-4, 0).item<double>();
      EXPECT_NEAR(norm / (64 * (0.5 + 0.1 * step)), 1, 0.01) << "step " << step;
    }
  }
  const double moved = 0.5 - wide.mean().item<double>();
  EXPECT_GT(moved, 0.003);
  EXPECT_NEAR(0.5 - narrow.to(at::kFloat).mean().item<double>(), moved, 0.03 * moved);
  EXPECT_EQ(rounded.flat_grads().scalar_type(), at::kBFloat16);
  for (const auto& [name, tensor] : rounded.State()) EXPECT_EQ(tensor.scalar_type(), at::kBFloat16) << name;
}

TEST(KernelAdamW, GoesOnBitForBitFromARestoredState) {
  const auto train = [](Optimizer& optimizer, const at::Tensor& weight, int from, int to) {
    for (int step = from; step < to; ++step) {
      weight.mutable_grad().fill_(0.3 + step);
      optimizer.ClipAndStep(0.01, 1.0);
    }
  };
  const auto leaf = [](double value) { return Leaf(at::full({5, 7}, value, at::kBFloat16)); };
  const at::Tensor whole = leaf(1), first = leaf(1), second = leaf(9);
  KernelAdamW uninterrupted({{"w", whole}}, {}, kernels::MakeAtenOperations());
  KernelAdamW before({{"w", first}}, {}, kernels::MakeAtenOperations());
  KernelAdamW after({{"w", second}}, {}, kernels::MakeAtenOperations());
  train(uninterrupted, whole, 0, 6);
  train(before, first, 0, 3);
  const auto from = before.State(), to = after.State();
  // By way of fp32, as a checkpoint keeps them.
  for (size_t i = 0; i < to.size(); ++i) to[i].second.copy_(from[i].second.to(at::kFloat));
  after.set_steps(before.steps());
  train(after, second, 3, 6);
  EXPECT_TRUE(at::equal(whole, second));
}

TEST(ClipGradNorm, LeavesGradientsBelowTheLimitAlone) {
  const std::vector<at::Tensor> grads = {at::tensor({3.0f}), at::tensor({4.0f})};
  EXPECT_FLOAT_EQ(ClipGradNorm(grads, 6.0).item<float>(), 5.0);
  EXPECT_FLOAT_EQ(grads[0].item<float>(), 3.0);
  EXPECT_FLOAT_EQ(ClipGradNorm(grads, 0).item<float>(), 5.0);
  EXPECT_FLOAT_EQ(grads[1].item<float>(), 4.0);
}

}  // namespace
}  // namespace studio
