// On the host and, linked for it, on a card. tests/parity/adamw8bit_test.py compares whole runs with bitsandbytes live.
#include "worker/trainer/optim/adamw8bit.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <utility>

#include "common/status/testing.h"
#include "worker/trainer/optim/adamw.h"

namespace studio {
namespace {

constexpr int64_t kNumbers = 5000;  // a last block that is not full
constexpr Optimizer::Options kOptions = {0.9, 0.95, 1e-8, 0.1};

std::vector<at::Device> Devices() {
  std::vector<at::Device> devices = {at::kCPU};
  if (at::hasCUDA()) devices.emplace_back(at::kCUDA, 0);
  return devices;
}

template <typename F>
at::Tensor Filled(F&& value) {
  std::vector<float> values(kNumbers);
  for (int64_t i = 0; i < kNumbers; ++i) values[i] = static_cast<float>(value(i));
  return at::tensor(values).reshape({50, 100});
}
at::Tensor Weight() {
  return Filled([](int64_t i) { return static_cast<double>(i * 7919 % 1000) / 1000 - 0.5; });
}
at::Tensor Grad(int64_t step) {
  return Filled([&](int64_t i) { return static_cast<double>((i * 104729 + step * 611953) % 2001 - 1000) / 1e5; });
}

// A matrix that is quantised and a bias that is not.
struct Problem {
  explicit Problem(at::Device device)
      : matrix(Weight().to(device).set_requires_grad(true)),
        bias(at::tensor({1.0f, -0.5f, 0.25f}).to(device).set_requires_grad(true)) {}
  std::vector<Optimizer::Parameter> Parameters() const { return {{"matrix", matrix, true}, {"bias", bias, false}}; }
  void Train(Optimizer& optimizer, int64_t from, int64_t to) {
    for (int64_t step = from; step < to; ++step) {
      matrix.mutable_grad().copy_(Grad(step + 1));
      bias.mutable_grad().copy_(at::tensor({0.1f, -0.2f, 0.3f}).mul_(static_cast<double>(step + 1)));
      optimizer.Step(0.01);
    }
  }
  at::Tensor matrix, bias;
};

class AdamW8bitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const at::Device device : Devices()) {
      const auto adam = BlockwiseAdam::Load(device);
      if (!adam.ok()) GTEST_SKIP() << "needs bitsandbytes (tools/setup.sh build oracle): " << adam.status().message();
    }
  }
  static AdamW8bit Make(const Problem& problem) {
    return {problem.Parameters(), kOptions, *BlockwiseAdam::Load(problem.matrix.device())};
  }
};

double At(const at::Tensor& tensor, int64_t index) { return tensor.flatten()[index].item<double>(); }

// Expected values: bitsandbytes 0.50.2, optim.AdamW8bit on a CPU, with the options and gradients above.
TEST_F(AdamW8bitTest, AgreesWithBitsandbytes) {
  const std::vector<int64_t> places = {0, 1, 255, 256, 1234, 2500, 4095, 4096, 4999};
  const std::vector<double> first = {-0.5094999670982361,  0.42858099937438965,  -0.14484500885009766,
                                     -0.22576409578323364, -0.44354602694511414, -0.00999996718019247,
                                     -0.1848050206899643,  -0.2857239544391632,  -0.408581018447876};
  const std::vector<double> tenth = {-0.5301175713539124,  0.4031272530555725,   -0.148029625415802,
                                     -0.19719316065311432, -0.43826359510421753, -0.010009625926613808,
                                     -0.17238417267799377, -0.27427420020103455, -0.42031270265579224};
  for (const at::Device device : Devices()) {
    SCOPED_TRACE(device.str());
    Problem problem(device);
    AdamW8bit optimizer = Make(problem);
    problem.Train(optimizer, 0, 1);
    for (size_t i = 0; i < places.size(); ++i) {
      const double start = At(Weight(), places[i]), kept = 1 - 0.01 * kOptions.weight_decay;
      // Its kernel for CUDA decays a weight after the step, its CPU library before.
      const double wanted = device.is_cpu() ? first[i] : (start + first[i] - start * kept) * kept;
      EXPECT_NEAR(At(problem.matrix, places[i]), wanted, 1e-6) << places[i];
    }
    const Optimizer::NamedTensors state = optimizer.State();
    EXPECT_EQ(state[1].first, "matrix#exp_avg_8bit");
    // Of 5,000 bytes; the two libraries round to another neighbour here and there (54 of them on an H200).
    const double neighbours = device.is_cpu() ? 50 : 250;
    EXPECT_NEAR(static_cast<double>(state[1].second.sum().item<int64_t>()), 635031, neighbours);
    EXPECT_NEAR(static_cast<double>(state[3].second.sum().item<int64_t>()), 728597, neighbours);
    EXPECT_NEAR(At(state[2].second, 19), 0.0009970000246539712, 1e-9);
    EXPECT_NEAR(At(state[4].second, 0), 4.9700452109391335e-06, 1e-11);

    problem.Train(optimizer, 1, 10);
    // One byte rounded the other way moves a weight by a hundredth of a step.
    const double limit = device.is_cpu() ? 2e-5 : 1e-3;
    for (size_t i = 0; i < places.size(); ++i) {
      EXPECT_NEAR(At(problem.matrix, places[i]), tenth[i], limit) << places[i];
    }
    EXPECT_NEAR(problem.matrix.detach().to(at::kDouble).abs().sum().item<double>(), 1241.5239945786307, 0.05);
    EXPECT_TRUE(at::allclose(problem.bias.detach().cpu(),
                             at::tensor({0.9043908715248108f, -0.4043908417224884f, 0.1543908268213272f}), 0, 1e-6));
  }
}

TEST_F(AdamW8bitTest, KeepsTwoBytesANumberAndFp32WhereItIsSmall) {
  const Problem problem(Devices().back());
  const AdamW8bit optimizer = Make(problem);
  std::vector<std::string> names;
  int64_t bytes = 0;
  for (const auto& [name, tensor] : optimizer.State()) {
    names.push_back(name);
    if (name.find("8bit") != name.npos) bytes += static_cast<int64_t>(tensor.nbytes());
  }
  EXPECT_THAT(names,
              testing::ElementsAre("matrix", "matrix#exp_avg_8bit", "matrix#exp_avg_absmax", "matrix#exp_avg_sq_8bit",
                                   "matrix#exp_avg_sq_absmax", "bias", "bias#exp_avg", "bias#exp_avg_sq"));
  EXPECT_EQ(bytes, 2 * kNumbers);
}

TEST_F(AdamW8bitTest, GoesOnBitForBitFromARestoredState) {
  for (const at::Device device : Devices()) {
    SCOPED_TRACE(device.str());
    Problem whole(device), first(device), second(device);
    second.matrix.detach().zero_();
    AdamW8bit uninterrupted = Make(whole), before = Make(first), after = Make(second);
    whole.Train(uninterrupted, 0, 12);
    first.Train(before, 0, 5);
    const auto from = before.State(), to = after.State();
    ASSERT_EQ(from.size(), to.size());
    for (size_t i = 0; i < to.size(); ++i) to[i].second.copy_(from[i].second);
    after.set_steps(before.steps());
    second.Train(after, 5, 12);
    EXPECT_TRUE(at::equal(whole.matrix, second.matrix));
    EXPECT_TRUE(at::equal(whole.bias, second.bias));
    const auto want = uninterrupted.State();
    for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(at::equal(want[i].second, to[i].second)) << want[i].first;
  }
}

TEST_F(AdamW8bitTest, StaysNearAdamWWithFp32States) {
  for (const at::Device device : Devices()) {
    SCOPED_TRACE(device.str());
    Problem exact(device), quantised(device);
    AdamW full(exact.Parameters(), kOptions);
    AdamW8bit eight = Make(quantised);
    exact.Train(full, 0, 20);
    quantised.Train(eight, 0, 20);
    const double moved = (exact.matrix.detach() - Weight().to(device)).norm().item<double>();
    const double apart = (exact.matrix.detach() - quantised.matrix.detach()).norm().item<double>();
    EXPECT_LT(apart, 0.1 * moved);
    EXPECT_GT(apart, 0) << "nothing was quantised";
    EXPECT_TRUE(at::equal(exact.bias, quantised.bias));
  }
}

TEST_F(AdamW8bitTest, LetsCopiesOfAWeightNoticeTheUpdate) {
  Problem problem(Devices().back());
  AdamW8bit optimizer = Make(problem);
  const int64_t version = problem.matrix._version();
  optimizer.Step(0.1);
  EXPECT_GT(problem.matrix._version(), version);
}

}  // namespace
}  // namespace studio
