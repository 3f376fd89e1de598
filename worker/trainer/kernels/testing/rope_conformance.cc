#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>

#include "worker/trainer/kernels/testing/conformance.h"

namespace studio::kernels {
namespace {

struct Shape {
  int64_t batch, length, heads, kv_heads, head_dim, border;
};
// Head sizes whose halves are multiples of 8, of 4 and of neither; a border that misaligns rows.
constexpr Shape kShapes[] = {{1, 1, 1, 1, 64, 0},  {2, 37, 4, 2, 64, 64}, {1, 9, 3, 1, 24, 0},
                             {3, 5, 2, 2, 40, 8},  {1, 17, 4, 1, 80, 16}, {2, 11, 8, 2, 128, 0},
                             {1, 4, 2, 1, 256, 0}, {1, 6, 2, 1, 6, 0},    {2, 7, 2, 1, 64, 3}};

// [T, heads, head_dim] in fp64, turned.
at::Tensor ExactRope(const at::Tensor& x, const at::Tensor& cosine, const at::Tensor& sine, int sign) {
  const int64_t half = x.size(2) / 2;
  const at::Tensor a = x.narrow(2, 0, half), b = x.narrow(2, half, half);
  const at::Tensor c = Exact(cosine).unsqueeze(1), s = Exact(sine).unsqueeze(1) * sign;
  return at::cat({a * c - b * s, b * c + a * s}, 2);
}

TEST_P(OperationsTest, RopeTurnsTheFirstHeadsAndBack) {
  for (const auto& [batch, length, heads, kv_heads, head_dim, border] : kShapes) {
    SCOPED_TRACE(testing::Message() << batch << " x " << length << ", heads " << heads << " and " << kv_heads << " of "
                                    << head_dim << " + " << border);
    const int64_t rows = batch * length, turned = heads + kv_heads, all = heads + 2 * kv_heads;
    const at::Tensor qkv = NormalRows(rows, all * head_dim, border);
    const at::Tensor angle = Normal({rows, head_dim / 2}).to(at::kFloat);
    const at::Tensor cosine = angle.cos(), sine = angle.sin();
    const at::Tensor before = Exact(qkv).view({rows, all, head_dim});
    ops().RopeInPlace(qkv, cosine, sine, turned, head_dim, 1);
    const at::Tensor after = Exact(qkv).view({rows, all, head_dim});
    ExpectClose(after.narrow(1, 0, turned), ExactRope(before.narrow(1, 0, turned), cosine, sine, 1), 1e-6, 3e-3,
                "q, k");
    EXPECT_TRUE(at::equal(after.narrow(1, turned, kv_heads), before.narrow(1, turned, kv_heads)));
    ExpectBorderKept(qkv, "rope");
    ops().RopeInPlace(qkv, cosine, sine, turned, head_dim, -1);
    ExpectClose(qkv, before.view({rows, all * head_dim}), 1e-6, 4e-3, "turned back");
  }
}

TEST_P(OperationsTest, RopeGradientGathersWhateverAttentionReturns) {
  for (const auto& [batch, length, heads, kv_heads, head_dim, border] : kShapes) {
    SCOPED_TRACE(testing::Message() << batch << " x " << length << ", heads " << heads << " and " << kv_heads << " of "
                                    << head_dim << " + " << border);
    const int64_t rows = batch * length;
    const at::Tensor angle = Normal({rows, head_dim / 2}).to(at::kFloat);
    const at::Tensor cosine = angle.cos(), sine = angle.sin();
    // dq head by head, dk position by position (as cuDNN lays it out), dv out of a wider buffer.
    const at::Tensor dq = Normal({batch, heads, length, head_dim});
    const at::Tensor dk = Normal({batch, length, kv_heads, head_dim}).transpose(1, 2);
    const at::Tensor dv = Normal({batch, length, kv_heads + 1, head_dim}).narrow(2, 1, kv_heads).transpose(1, 2);
    const at::Tensor d_qkv = EmptyRows(rows, (heads + 2 * kv_heads) * head_dim, border);
    ops().RopeBackwardGather(dq, dk, dv, cosine, sine, d_qkv);
    const auto flat = [&](const at::Tensor& x) { return Exact(x).transpose(1, 2).reshape({rows, -1, head_dim}); };
    const at::Tensor got = Exact(d_qkv).view({rows, -1, head_dim});
    ExpectClose(got.narrow(1, 0, heads), ExactRope(flat(dq), cosine, sine, -1), 1e-6, 3e-3, "dq");
    ExpectClose(got.narrow(1, heads, kv_heads), ExactRope(flat(dk), cosine, sine, -1), 1e-6, 3e-3, "dk");
    EXPECT_TRUE(at::equal(got.narrow(1, heads + kv_heads, kv_heads), flat(dv)));
    ExpectBorderKept(d_qkv, "rope gradient");
  }
}

}  // namespace
}  // namespace studio::kernels
