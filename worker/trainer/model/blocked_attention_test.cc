#include "worker/trainer/model/blocked_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "worker/trainer/model/attention.h"
#include "worker/trainer/model/counter_random.h"

namespace studio {
namespace {

at::Tensor Random(at::IntArrayRef sizes, std::string_view name) {
  at::Tensor x = at::empty(sizes, at::kFloat);
  float* const numbers = x.data_ptr<float>();
  for (int64_t i = 0; i < x.numel(); ++i) {
    numbers[i] = static_cast<float>(Normal(RandomKey(1, name), static_cast<uint64_t>(i)));
  }
  return x;
}

struct Shape {
  std::vector<int32_t> cu_seqlens;
  int64_t heads, kv_heads, head_dim;
};
// Blocks of 16: segments that end within a block, on its edge, in the first one, and after one token.
const Shape kShapes[] = {{{0, 37, 38, 70}, 4, 2, 8}, {{0, 16, 48}, 3, 3, 6}, {{0, 5}, 4, 1, 16}};

PassPtr PassOf(const Shape& shape) {
  auto pass = std::make_shared<Pass>();
  pass->cu_seqlens = shape.cu_seqlens;
  pass->heads = shape.heads;
  pass->kv_heads = shape.kv_heads;
  pass->head_dim = shape.head_dim;
  pass->attention = Attention::kEager;
  const at::Tensor angles = Random({shape.cu_seqlens.back(), shape.head_dim / 2}, "angles");
  pass->cosine = angles.cos();
  pass->sine = angles.sin();
  return pass;
}

double Relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kFloat) - b).norm() / b.norm()).item<double>();
}

TEST(BlockedAttention, HasTheOutputsAndGradientsOfScoresWrittenOut) {
  for (const Shape& shape : kShapes) {
    const PassPtr pass = PassOf(shape);
    const int64_t tokens = shape.cu_seqlens.back();
    const at::Tensor qkv = Random({tokens, (shape.heads + 2 * shape.kv_heads) * shape.head_dim}, "qkv");
    const at::Tensor d = Random({tokens, shape.heads * shape.head_dim}, "d");
    const at::Tensor exact = qkv.clone().requires_grad_(true);
    const at::Tensor expected = SelfAttention(exact * 1, pass);
    expected.backward(d);
    for (const auto& [type, limit] : {std::pair(at::kFloat, 1e-6), std::pair(at::kBFloat16, 0.01)}) {
      const at::Tensor leaf = qkv.to(type).clone().requires_grad_(true);
      const at::Tensor out = BlockedAttention(leaf * 1, pass, /*block=*/16);
      EXPECT_EQ(out.scalar_type(), type);
      EXPECT_LT(Relative(out, expected.detach()), limit) << tokens << " tokens";
      out.backward(d.to(type));
      EXPECT_LT(Relative(leaf.grad(), exact.grad()), 2 * limit) << tokens << " tokens";
    }
  }
}

TEST(BlockedAttention, IsTheSameForEverySizeOfABlock) {
  const PassPtr pass = PassOf(kShapes[0]);
  const at::Tensor qkv = Random({70, 64}, "qkv");
  const at::Tensor whole = BlockedAttention(qkv.clone(), pass, 1000);
  for (const int64_t block : {1, 7, 16, 37}) {
    EXPECT_LT(Relative(BlockedAttention(qkv.clone(), pass, block), whole), 1e-6) << block;
  }
}

}  // namespace
}  // namespace studio
