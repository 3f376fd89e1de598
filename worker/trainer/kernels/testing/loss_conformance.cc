#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <limits>

#include "worker/trainer/kernels/testing/conformance.h"

namespace studio::kernels {
namespace {

struct Shape {
  int64_t rows, vocab, border;
};
// Odd vocabularies start every second row at a place that is not aligned. 32000 fits into a block's registers, 128256
// into these and a multiprocessor's shared memory, 151936 into neither.
constexpr Shape kShapes[] = {{1, 5, 0},    {4, 33, 0},     {9, 1000, 24}, {3, 50257, 0},
                             {5, 1001, 2}, {2, 128256, 0}, {3, 32000, 8}, {2, 151936, 0}};

at::Tensor ExactLosses(const at::Tensor& raw, const at::Tensor& labels, double soft_cap = 0) {
  const at::Tensor logits = soft_cap > 0 ? (raw / soft_cap).tanh() * soft_cap : raw;
  return at::logsumexp(logits, 1) - at::gather(logits, 1, labels.to(at::kCPU).unsqueeze(1)).squeeze(1);
}

TEST_P(OperationsTest, CrossEntropyAndItsGradientAgreeWithAutograd) {
  for (const double soft_cap : {0.0, 6.0}) {
    for (const auto& [rows, vocab, border] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " x " << vocab << " + " << border << ", soft cap " << soft_cap);
      const at::Tensor logits = NormalRows(rows, vocab, border);
      logits.mul_(4);
      at::Tensor labels = (at::arange(rows, at::kLong) * 7919) % vocab;
      labels[0] = vocab - 1;
      if (rows > 1) labels[1] = 0;
      labels = OnDevice(labels);
      const at::Tensor leaf = ExactLeaf(logits), expected = ExactLosses(leaf, labels, soft_cap);
      (expected.sum() * 0.25).backward();
      const at::Tensor losses = Floats({rows}, -1);
      ops().CrossEntropyInPlace(logits, labels, Floats({}, 0.25), soft_cap, losses);
      EXPECT_LE(((Exact(losses) - expected).abs() / (expected.abs() + 1)).max().item<double>(), 2e-6);
      ExpectClose(logits, leaf.grad(), 5e-6, 3e-3, "gradient");
      ExpectBorderKept(logits, "cross entropy");
    }
  }
}

TEST_P(OperationsTest, CrossEntropyHoldsForExtremeLogits) {
  const double inf = std::numeric_limits<double>::infinity();
  const at::Tensor logits = Normal({6, 40});
  logits[0].mul_(1e4);           // one logit far above the others
  logits[1].add_(20000);         // all huge, close together (in bf16: equal steps)
  logits[2].fill_(0);            // all equal
  logits[3].fill_(-inf)[7] = 2;  // all but the label impossible
  logits[4].sub_(30000);
  logits[5].narrow(0, 3, 20).fill_(-inf);
  const at::Tensor labels = OnDevice(at::tensor({39, 0, 20, 7, 1, 39}, at::kLong));
  const at::Tensor leaf = ExactLeaf(logits), expected = ExactLosses(leaf, labels);
  expected.sum().backward();
  const at::Tensor losses = Floats({6}, -1);
  ops().CrossEntropyInPlace(logits, labels, Floats({}, 1), /*soft_cap=*/0, losses);
  for (int row = 0; row < 6; ++row) {
    // A few roundings of a number of the logits' size.
    const double size = leaf[row].detach().abs().nan_to_num(0, 0, 0).max().item<double>();
    EXPECT_NEAR(losses[row].item<double>(), expected[row].item<double>(), 1e-5 + 2.5e-7 * size) << "row " << row;
    ExpectClose(logits[row], leaf.grad()[row].nan_to_num(0), 4e-3, 4e-3, "gradient");
  }
}

TEST_P(OperationsTest, CrossEntropyKeepsNanInItsRow) {
  const at::Tensor logits = Normal({3, 50}), losses = Floats({3}, 0);
  logits[1][20] = std::numeric_limits<double>::quiet_NaN();
  ops().CrossEntropyInPlace(logits, OnDevice(at::tensor({0, 3, 49}, at::kLong)), Floats({}, 1), /*soft_cap=*/0, losses);
  EXPECT_TRUE(losses[1].isnan().item<bool>());
  EXPECT_EQ(losses.isnan().sum().item<int64_t>(), 1);
  EXPECT_EQ(logits.isnan().sum().item<int64_t>(), 50);
}

TEST_P(OperationsTest, EmbeddingGradientAddsUpEqualTokensTheSameWayEachTime) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 8}, {600, 64}, {50, 33}, {700, 2048}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << width);
    const int64_t vocab = 90;
    const at::Tensor d_hidden = NormalRows(rows, width, 8);
    at::Tensor tokens = (at::arange(rows, at::kLong) * 31) % 47;  // 47 and above: no token
    if (rows > 100) {
      tokens.narrow(0, 20, 60).fill_(vocab - 1);
      tokens[5] = 0;
    }
    tokens = OnDevice(tokens);
    at::Tensor expected = at::zeros({vocab, width}, at::kDouble) + 0.5;
    expected.index_add_(0, tokens.to(at::kCPU), Exact(d_hidden));
    const at::Tensor first = Floats({vocab, width}, 0.5), second = Floats({vocab, width}, 0.5);
    for (const at::Tensor& grad : {first, second}) ops().EmbeddingGradient(d_hidden, tokens, grad);
    ExpectClose(first, expected, 1e-6, 1e-6, "gradient");
    EXPECT_TRUE(at::equal(first, second));
    // Into the compute type: the same, rounded once.
    const at::Tensor narrow = Floats({vocab, width}, 0.5).to(GetParam().type);
    ops().EmbeddingGradient(d_hidden, tokens, narrow);
    ExpectClose(narrow, expected, 1e-6, 2e-3, "gradient in the compute type");
    EXPECT_LE((Exact(narrow) - Exact(first.to(GetParam().type))).abs().max().item<double>(), bf16() ? 0.13 : 1e-5);
  }
}

}  // namespace
}  // namespace studio::kernels
