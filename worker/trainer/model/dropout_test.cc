#include "worker/trainer/model/dropout.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "worker/trainer/model/counter_random.h"

namespace studio {
namespace {

// Ids of two rows, as batches have them; a key whose highest bit is set.
AdapterDropout Some(double p) {
  const auto type = at::TensorOptions(at::kLong);
  return {.p = p,
          .step_key = at::full({}, static_cast<int64_t>(0xfedcba9876543210ull), type),
          .ids = at::arange(40, type) + (int64_t{3} << 32),
          .sites = {NameHash("model.layers.0.self_attn.q_proj"), NameHash("model.layers.0.self_attn.v_proj")}};
}

TEST(Dropout, DropsWhatTheFormulaSays) {
  const AdapterDropout dropout = Some(0.25);
  const at::Tensor mask = DropMask(10, dropout, 1);
  for (int64_t t = 0; t < 40; ++t) {
    const uint64_t key = RandomKey(RandomKey(0xfedcba9876543210ull, "model.layers.0.self_attn.v_proj"),
                                   static_cast<uint64_t>(t + (int64_t{3} << 32)));
    for (int64_t c = 0; c < 10; ++c) {
      const uint64_t draw = DropoutBits(key, static_cast<uint32_t>(c / 4)) >> (16 * (c % 4)) & 0x7fff;
      EXPECT_EQ(mask[t][c].item<bool>(), draw < 8192) << t << ", " << c;
    }
  }
}

TEST(Dropout, IsTheSameByTensorsAndByTheHost) {
  for (const double p : {0.0, 1e-6, 0.05, 0.5, 0.95}) {
    const AdapterDropout dropout = Some(p);
    for (const int64_t channels : {1, 3, 4, 64, 129}) {
      for (const size_t which : {size_t{0}, size_t{1}}) {
        EXPECT_TRUE(DropMask(channels, dropout, which).equal(DropMaskOnDevice(channels, dropout, which)))
            << p << ", " << channels << ", " << which;
      }
    }
  }
}

TEST(Dropout, DropsTheShareThatIsAskedForAndKeepsTheMean) {
  AdapterDropout dropout = Some(0.1);
  dropout.ids = at::arange(2000, at::TensorOptions(at::kLong));
  const at::Tensor kept = Dropped(at::ones({2000, 512}), dropout, 0);
  // 1,024,000 draws: a standard deviation of 3e-4.
  EXPECT_NEAR(1 - kept.mean().item<double>(), 0.1, 1.5e-3);
  EXPECT_NEAR(kept.mean().item<double>() * dropout.Kept(), 1, 1.5e-3);
  EXPECT_NEAR(dropout.Kept(), 1 / 0.9, 1e-5);
}

// What neighbours share would be learnt: channels of a token, tokens of a channel, and two adapters.
TEST(Dropout, NeighboursAreIndependent) {
  AdapterDropout dropout = Some(0.5);
  dropout.ids = at::arange(1024, at::TensorOptions(at::kLong));
  const at::Tensor first = 1 - 2 * DropMask(2048, dropout, 0).to(at::kFloat);
  const at::Tensor second = 1 - 2 * DropMask(2048, dropout, 1).to(at::kFloat);
  const auto correlation = [](const at::Tensor& a, const at::Tensor& b) { return (a * b).mean().item<double>(); };
  // Two million pairs: a standard deviation of 7e-4.
  EXPECT_NEAR(correlation(first, second), 0, 3e-3);
  for (const int64_t lag : {1, 2, 3, 4, 5, 8, 16, 32, 64, 128, 256, 512}) {
    EXPECT_NEAR(correlation(first.narrow(1, 0, 1024), first.narrow(1, lag, 1024)), 0, 5e-3) << "channels, lag " << lag;
    EXPECT_NEAR(correlation(first.narrow(0, 0, 512), first.narrow(0, lag, 512)), 0, 5e-3) << "tokens, lag " << lag;
  }
  // Each channel and each token drops its half: 1,024 and 2,048 draws.
  EXPECT_LT(first.mean(0).abs().max().item<double>(), 0.16);
  EXPECT_LT(first.mean(1).abs().max().item<double>(), 0.12);
}

TEST(Dropout, TakesWhatIsNotFiniteAway) {
  AdapterDropout dropout = Some(0.5);
  const at::Tensor x = at::full({40, 16}, std::numeric_limits<float>::infinity());
  const at::Tensor dropped = Dropped(x, dropout, 0);
  EXPECT_TRUE((dropped == 0).equal(DropMask(16, dropout, 0)));
}

}  // namespace
}  // namespace studio
