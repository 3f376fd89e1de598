#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>

#include "worker/trainer/kernels/testing/conformance.h"

namespace studio::kernels {
namespace {

struct Shape {
  int64_t rows, in, out, rank, border;
};
// Few tokens and many, no whole tile of either, ranks of less and more than a tile, odd ones and odd columns.
constexpr Shape kShapes[] = {{1, 64, 128, 2, 0},    {40, 64, 64, 16, 8},    {300, 512, 192, 16, 64},
                             {2100, 128, 64, 6, 8}, {1100, 64, 192, 40, 0}, {1030, 64, 64, 3, 0},
                             {9, 33, 64, 4, 0},     {515, 64, 31, 8, 0}};

// grad before the step is 2: gradients are added to.
at::Tensor Expected(const AdapterGradient& gradient) {
  const at::Tensor wide = ExactDropped(gradient.wide, gradient.dropout, gradient.which);
  const at::Tensor product = at::mm(Exact(gradient.narrow).t(), wide) * gradient.scale;
  return (gradient.transposed ? product.t() : product) + 2;
}

TEST_P(OperationsTest, GradientsOfAGroupsAdaptersAreAddedTogether) {
  for (const double p : {0.0, 0.2}) {
    for (const auto& [rows, in, out, rank, border] : kShapes) {
      SCOPED_TRACE(testing::Message() << rows << " x " << in << " to " << out << ", rank " << rank << " + " << border
                                      << ", p " << p);
      const at::Tensor x = NormalRows(rows, in, border), dy = NormalRows(rows, 2 * out, border);
      const at::Tensor low = NormalRows(rows, 2 * rank, 64), d_low = NormalRows(rows, 2 * rank, 64);
      std::vector<AdapterGradient> gradients;
      for (int64_t member = 0; member < 2; ++member) {
        AdapterGradient a{.narrow = d_low.narrow(1, member * rank, rank), .wide = x, .grad = Floats({rank, in}, 2)};
        a.dropout = SomeDropout(rows, p > 0 ? 2 : 0, p, GetParam().device);
        a.which = static_cast<size_t>(member);
        gradients.push_back(a);
        gradients.push_back({.narrow = low.narrow(1, member * rank, rank),
                             .wide = dy.narrow(1, member * out, out),
                             .grad = Floats({out, rank}, 2),
                             .scale = 1.5,
                             .transposed = true});
      }
      ops().AddAdapterGradients(gradients);
      std::vector<at::Tensor> first;
      for (AdapterGradient& gradient : gradients) {
        ExpectClose(gradient.grad, Expected(gradient), 2e-6, 5e-3, gradient.transposed ? "B" : "A");
        first.push_back(gradient.grad.clone());
        gradient.grad.fill_(2);
      }
      ops().AddAdapterGradients(gradients);
      for (size_t i = 0; i < first.size(); ++i) {
        EXPECT_TRUE(at::equal(first[i], gradients[i].grad)) << "the same each time";
      }
    }
  }
}

TEST_P(OperationsTest, GradientsOfMoreAdaptersThanOneLaunchTakes) {
  const at::Tensor x = Normal({20, 64}), narrow = Normal({20, 80});
  std::vector<AdapterGradient> gradients;
  for (int64_t i = 0; i < 20; ++i) {
    gradients.push_back({.narrow = narrow.narrow(1, 2 * i, 40), .wide = x, .grad = Floats({40, 64}, 2)});
  }
  ops().AddAdapterGradients(gradients);
  for (const AdapterGradient& gradient : gradients) ExpectClose(gradient.grad, Expected(gradient), 2e-6, 5e-3, "A");
}

}  // namespace
}  // namespace studio::kernels
