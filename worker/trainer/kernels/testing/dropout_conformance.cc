#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>

#include "worker/trainer/kernels/testing/conformance.h"
#include "worker/trainer/model/counter_random.h"

namespace studio::kernels {
namespace {

struct Shape {
  int64_t rows, width, adapters, rank, border;
};
// Tokens and columns that are no whole block, one and several adapters, ranks of less and more than a tile, odd ones.
constexpr Shape kShapes[] = {{1, 64, 1, 2, 0},    {40, 64, 3, 16, 0},  {300, 512, 2, 16, 64}, {33, 320, 3, 6, 8},
                             {70, 128, 2, 40, 8}, {17, 192, 1, 64, 0}, {2100, 128, 1, 16, 0}, {20, 64, 2, 3, 0},
                             {9, 33, 3, 4, 0},    {5, 1, 1, 1, 0}};

// Of each adapter in turn.
std::vector<at::Tensor> EachDropped(const at::Tensor& x, const AdapterDropout& dropout) {
  std::vector<at::Tensor> dropped;
  for (size_t i = 0; i < dropout.adapters(); ++i) dropped.push_back(ExactDropped(x, dropout, i));
  return dropped;
}

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  return out << s.rows << " x " << s.width << ", " << s.adapters << " of rank " << s.rank << " + " << s.border;
}

TEST_P(OperationsTest, MasksOfDropoutAreThoseOfTheFormula) {
  const AdapterDropout dropout = SomeDropout(65, 2, 0.3, GetParam().device);
  EXPECT_TRUE(DropMask(130, SomeDropout(65, 2, 0.3, at::kCPU), 1).equal(DropMask(130, dropout, 1).cpu()));
}

TEST_P(OperationsTest, DroppedInputsAreMultipliedByTheAdapters) {
  for (const double p : {0.0, 0.1, 0.5}) {
    for (const Shape& shape : kShapes) {
      SCOPED_TRACE(testing::Message() << shape << ", p " << p);
      const auto& [rows, width, adapters, rank, border] = shape;
      const AdapterDropout dropout = SomeDropout(rows, adapters, p, GetParam().device);
      const at::Tensor x = NormalRows(rows, width, border), a = NormalRows(adapters * rank, width, border);
      const at::Tensor low = EmptyRows(rows, adapters * rank + 4, 64);
      ops().DroppedLow(x, a, dropout, low);
      const std::vector<at::Tensor> dropped = EachDropped(x, dropout);
      std::vector<at::Tensor> parts;
      for (int64_t i = 0; i < adapters; ++i) {
        parts.push_back(at::mm(dropped[static_cast<size_t>(i)], Exact(a).narrow(0, i * rank, rank).t()));
      }
      ExpectClose(low.narrow(1, 0, adapters * rank), at::cat(parts, 1), 2e-6, 5e-3, "low");
      EXPECT_TRUE((low.narrow(1, adapters * rank, 4) == 0).all().item<bool>()) << "what no adapter fills";
      for (const at::Tensor& t : {x, a, low}) ExpectBorderKept(t, "dropped low");
    }
  }
}

TEST_P(OperationsTest, GradientOfDroppedInputs) {
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::Message() << shape);
    const auto& [rows, width, adapters, rank, border] = shape;
    const AdapterDropout dropout = SomeDropout(rows, adapters, 0.1, GetParam().device);
    const at::Tensor a = NormalRows(adapters * rank, width, border), d_low = NormalRows(rows, adapters * rank, 64);
    const at::Tensor dx = NormalRows(rows, width, border);
    at::Tensor expected = Exact(dx).clone();
    for (int64_t i = 0; i < adapters; ++i) {
      const at::Tensor part = at::mm(Exact(d_low).narrow(1, i * rank, rank), Exact(a).narrow(0, i * rank, rank));
      expected += ExactDropped(part, dropout, static_cast<size_t>(i));
    }
    ops().AddDroppedBackward(d_low, a, dropout, dx);
    ExpectClose(dx, expected, 2e-6, 6e-3, "dx");
    for (const at::Tensor& t : {a, d_low, dx}) ExpectBorderKept(t, "dropped dx");
  }
}

}  // namespace
}  // namespace studio::kernels
