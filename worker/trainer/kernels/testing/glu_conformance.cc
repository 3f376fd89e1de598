#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/silu.h>

#include "worker/trainer/kernels/testing/conformance.h"

namespace studio::kernels {
namespace {

struct Shape {
  int64_t rows, width, border;
};
constexpr Shape kShapes[] = {{1, 8, 0}, {5, 24, 64}, {300, 512, 64}, {7, 33, 0}, {4, 64, 3}, {9, 1, 0}};

at::Tensor ExactGlu(Activation activation, const at::Tensor& gate_up) {
  const int64_t width = gate_up.size(1) / 2;
  const at::Tensor gate = gate_up.narrow(1, 0, width);
  return (activation == Activation::kSilu ? at::silu(gate) : at::gelu(gate, "tanh")) * gate_up.narrow(1, width, width);
}

TEST_P(OperationsTest, GluAndItsGradientAgreeWithAutograd) {
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    for (const auto& [rows, width, border] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " x " << width << " + " << border << ", activation "
                                      << static_cast<int>(activation));
      const at::Tensor gate_up = NormalRows(rows, 2 * width, border);
      gate_up.mul_(3);
      const at::Tensor leaf = ExactLeaf(gate_up), expected = ExactGlu(activation, leaf);
      const at::Tensor out = EmptyRows(rows, width, border);
      ops().GluForward(activation, gate_up, out);
      ExpectClose(out, expected, 1e-6, 3e-3, "out");

      const at::Tensor d_out = NormalRows(rows, width, border), again = EmptyRows(rows, width, border);
      expected.backward(Exact(d_out));
      ops().GluBackward(activation, d_out, gate_up, again);
      ExpectClose(gate_up, leaf.grad(), 2e-6, 3e-3, "d_gate_up");
      ExpectClose(again, expected, 1e-6, 3e-3, "out again");
      for (const at::Tensor& x : {gate_up, out, again, d_out}) ExpectBorderKept(x, "glu");
    }
  }
}

struct AdapterShape {
  int64_t rows, width, rank, border;
};
// Ranks that fill the tensor cores' 16, half of them, an odd few, and more; rows and columns that are no whole tile.
constexpr AdapterShape kAdapterShapes[] = {{64, 64, 16, 0},   {300, 512, 16, 64}, {5, 128, 8, 8},
                                           {2100, 192, 4, 0}, {2200, 64, 16, 8},  {1, 64, 2, 64},
                                           {40, 128, 32, 0},  {33, 64, 3, 0},     {20, 40, 16, 8}};

// With what is dropped of the next projection's input.
constexpr std::pair<Activation, double> kAdapterCases[] = {
    {Activation::kSilu, 0}, {Activation::kGeluTanh, 0}, {Activation::kSilu, 0.1}, {Activation::kGeluTanh, 0.5}};

TEST_P(OperationsTest, GluMultipliesTheNextAdaptersA) {
  for (const auto& [activation, p] : kAdapterCases) {
    for (const auto& [rows, width, rank, border] : kAdapterShapes) {
      SCOPED_TRACE(testing::Message() << rows << " x " << width << ", rank " << rank << " + " << border
                                      << ", activation " << static_cast<int>(activation) << ", p " << p);
      const AdapterDropout dropout = SomeDropout(rows, p > 0 ? 1 : 0, p, GetParam().device);
      const at::Tensor gate_up = NormalRows(rows, 2 * width, border), a = NormalRows(rank, width, border);
      const at::Tensor out = EmptyRows(rows, width, border), low = EmptyRows(rows, rank, 64);
      ops().GluForwardWithAdapter(activation, gate_up, a, dropout, out, low);
      const at::Tensor expected = ExactGlu(activation, Exact(gate_up));
      ExpectClose(out, expected, 1e-6, 3e-3, "out");
      ExpectClose(low, at::mm(ExactDropped(out, dropout), Exact(a).t()), 2e-6, p > 0 ? 5e-3 : 3e-3, "low");
      for (const at::Tensor& x : {gate_up, a, out, low}) ExpectBorderKept(x, "glu with an adapter");
    }
  }
}

TEST_P(OperationsTest, GluGradientMultipliesTheAdaptersItPasses) {
  for (const auto& [activation, p] : kAdapterCases) {
    for (const auto& [rows, width, rank, border] : kAdapterShapes) {
      SCOPED_TRACE(testing::Message() << rows << " x " << width << ", rank " << rank << " + " << border
                                      << ", activation " << static_cast<int>(activation) << ", p " << p);
      const at::Tensor gate_up = NormalRows(rows, 2 * width, border), d_out = NormalRows(rows, width, border);
      const at::Tensor leaf = ExactLeaf(gate_up), out = ExactGlu(activation, leaf);
      out.backward(Exact(d_out));
      GluAdapters adapters{.down_low = NormalRows(rows, rank, 64),
                           .gate_low = NormalRows(rows, rank, 64),
                           .up_low = NormalRows(rows, rank, 64),
                           .down_a = Floats({rank, width + 8}, -1).narrow(1, 0, width),
                           .gate_b = Floats({width, rank}, -1),
                           .up_b = Floats({width, rank}, -1),
                           .b_scale = 0.5,
                           .dropout = SomeDropout(rows, p > 0 ? 1 : 0, p, GetParam().device)};
      const at::Tensor twin = gate_up.clone();
      ops().GluBackwardWithAdapters(activation, d_out, gate_up, adapters);
      ExpectClose(gate_up, leaf.grad(), 2e-6, 3e-3, "d_gate_up");
      // The products take their factors rounded to bf16, so some 2e-3 stay.
      const at::Tensor d_gate = leaf.grad().narrow(1, 0, width), d_up = leaf.grad().narrow(1, width, width);
      const at::Tensor dropped = ExactDropped(out.detach(), adapters.dropout);
      ExpectClose(adapters.down_a, at::mm(Exact(adapters.down_low).t(), dropped) - 1, 2e-6, 5e-3, "down_a");
      ExpectClose(adapters.gate_b, at::mm(d_gate.t(), Exact(adapters.gate_low)) * 0.5 - 1, 2e-6, 5e-3, "gate_b");
      ExpectClose(adapters.up_b, at::mm(d_up.t(), Exact(adapters.up_low)) * 0.5 - 1, 2e-6, 5e-3, "up_b");
      ExpectBorderKept(gate_up, "glu with adapters");
      EXPECT_TRUE((adapters.down_a.as_strided({rank, 8}, {width + 8, 1}, width) == -1).all().item<bool>());
      const at::Tensor first = adapters.down_a.clone(), again = adapters.gate_b.clone();
      adapters.down_a.fill_(-1);
      adapters.gate_b.fill_(-1);
      ops().GluBackwardWithAdapters(activation, d_out, twin, adapters);
      EXPECT_TRUE(at::equal(first, adapters.down_a) && at::equal(again, adapters.gate_b)) << "the same each time";
    }
  }
}

TEST_P(OperationsTest, GluGradientMayWriteItsOutputOverDOut) {
  const at::Tensor gate_up = Normal({6, 128}), twin = gate_up.clone(), d_out = Normal({6, 64});
  const at::Tensor leaf = ExactLeaf(gate_up), expected = ExactGlu(Activation::kSilu, leaf);
  expected.backward(Exact(d_out));
  ops().GluBackward(Activation::kSilu, d_out.clone(), twin, at::Tensor());
  ExpectClose(twin, leaf.grad(), 2e-6, 3e-3, "d_gate_up without an output");
  ops().GluBackward(Activation::kSilu, d_out, gate_up, d_out);
  ExpectClose(gate_up, leaf.grad(), 2e-6, 3e-3, "d_gate_up");
  ExpectClose(d_out, expected, 1e-6, 3e-3, "out");
}

TEST_P(OperationsTest, GluHoldsAtTheEndsOfTheRange) {
  for (const Activation activation : {Activation::kSilu, Activation::kGeluTanh}) {
    SCOPED_TRACE(static_cast<int>(activation));
    const at::Tensor gate_up = Normal({1, 16});
    const double gates[] = {-1e4, -200, -89, -20, 0, 20, 200, 1e4};
    for (int i = 0; i < 8; ++i) gate_up[0][i] = gates[i];
    const at::Tensor leaf = ExactLeaf(gate_up), expected = ExactGlu(activation, leaf);
    expected.sum().backward();
    const at::Tensor out = EmptyRows(1, 8, 0), ones = Normal({1, 8}).fill_(1);
    ops().GluForward(activation, gate_up, out);
    ExpectClose(out, expected, 1e-6, 3e-3, "out");
    ops().GluBackward(activation, ones, gate_up, at::Tensor());
    ExpectClose(gate_up, leaf.grad(), 2e-6, 3e-3, "d_gate_up");
  }
}

TEST_P(OperationsTest, GluKeepsNanInItsPlace) {
  const at::Tensor gate_up = Normal({2, 32}), out = EmptyRows(2, 16, 0);
  gate_up[1][5] = std::numeric_limits<double>::quiet_NaN();
  ops().GluForward(Activation::kSilu, gate_up, out);
  EXPECT_EQ(out.isnan().sum().item<int64_t>(), 1);
  EXPECT_TRUE(out[1][5].isnan().item<bool>());
}

}  // namespace
}  // namespace studio::kernels
