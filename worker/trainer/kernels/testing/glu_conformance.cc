#include <ATen/TensorOperators.h>
#include <ATen/ops/gelu.h>
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
