#include "worker/trainer/model/blocked_attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "worker/trainer/model/attention.h"

namespace studio {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows [begin, end) of a segment's queries, and what they see.
struct Block {
  int64_t begin, end;
};

// One segment: heads that share keys lie beside each other, [kv_heads, group, length, head_dim], keys and values
// [kv_heads, length, head_dim]. Views.
struct Segment {
  at::Tensor q, k, v;
};
Segment SegmentOf(const at::Tensor& qkv, const Pass& pass, int64_t begin, int64_t length) {
  const at::Tensor heads = qkv.narrow(0, begin, length).view({length, -1, pass.head_dim}).transpose(0, 1);
  return {heads.narrow(0, 0, pass.heads).unflatten(0, {pass.kv_heads, -1}), heads.narrow(0, pass.heads, pass.kv_heads),
          heads.narrow(0, pass.heads + pass.kv_heads, pass.kv_heads)};
}
// The same view of what has the heads of queries alone, [T, heads * head_dim].
at::Tensor QueriesOf(const at::Tensor& x, const Pass& pass, int64_t begin, int64_t length) {
  return x.narrow(0, begin, length).view({length, -1, pass.head_dim}).transpose(0, 1).unflatten(0, {pass.kv_heads, -1});
}

// [kv_heads, group * rows, head_dim] fp32: one product for the heads that share keys.
at::Tensor Rows(const at::Tensor& queries, const Block& block) {
  return queries.narrow(2, block.begin, block.end - block.begin).flatten(1, 2).to(at::kFloat);
}

// fp32 [kv_heads, group * rows, end]: what a token may not see is minus infinity.
at::Tensor Scores(const at::Tensor& q, const at::Tensor& k, const Block& block, double scale) {
  const int64_t rows = block.end - block.begin;
  at::Tensor scores = at::matmul(q, k.narrow(1, 0, block.end).to(at::kFloat).transpose(1, 2)).mul_(scale);
  const at::Tensor later = at::ones({rows, rows}, q.options().dtype(at::kBool)).triu(1);
  scores.unflatten(1, {-1, rows})
      .narrow(3, block.begin, rows)
      .masked_fill_(later, -std::numeric_limits<float>::infinity());
  return scores;
}

// f(first row of the segment, its length, block) for all of them.
template <typename F>
void ForEachBlock(const Pass& pass, int64_t size, F&& f) {
  for (size_t i = 0; i + 1 < pass.cu_seqlens.size(); ++i) {
    const int64_t begin = pass.cu_seqlens[i], length = pass.cu_seqlens[i + 1] - begin;
    for (int64_t row = 0; row < length; row += size) f(begin, length, Block{row, std::min(length, row + size)});
  }
}

struct Blocked : torch::autograd::Function<Blocked> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv_in, const PassPtr& pass, int64_t size) {
    at::Tensor qkv = qkv_in;
    RotateInPlace(qkv, *pass, 1);
    const double scale = 1 / std::sqrt(static_cast<double>(pass->head_dim));
    at::Tensor out = at::empty({qkv.size(0), pass->heads * pass->head_dim}, qkv.options());
    variable_list saved = {qkv, out};
    ForEachBlock(*pass, size, [&](int64_t begin, int64_t length, const Block& block) {
      const auto [queries, k, v] = SegmentOf(qkv, *pass, begin, length);
      const at::Tensor scores = Scores(Rows(queries, block), k, block, scale);
      const at::Tensor log_sum = at::logsumexp(scores, 2, /*keepdim=*/true);
      const at::Tensor values = v.narrow(1, 0, block.end).to(at::kFloat);
      const int64_t rows = block.end - block.begin;
      QueriesOf(out, *pass, begin, length)
          .narrow(2, block.begin, rows)
          .copy_(at::matmul((scores - log_sum).exp_(), values).unflatten(1, {-1, rows}));
      saved.push_back(log_sum);
    });
    ctx->save_for_backward(std::move(saved));
    ctx->saved_data["pass"] = at::IValue::make_capsule(c10::make_intrusive<Holder>(pass, size));
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["pass"].toCapsule();
    const Holder& holder = *static_cast<Holder*>(capsule.get());
    const PassPtr& pass = holder.pass;
    const double scale = 1 / std::sqrt(static_cast<double>(pass->head_dim));
    const at::Tensor& qkv = saved[0];
    const at::Tensor d_out = grads[0].contiguous();
    // Keys and values receive from every block behind them: summed in fp32.
    const at::Tensor d_qkv = at::zeros(qkv.sizes(), qkv.options().dtype(at::kFloat));
    size_t next = 2;
    ForEachBlock(*pass, holder.size, [&](int64_t begin, int64_t length, const Block& block) {
      const auto [queries, k, v] = SegmentOf(qkv, *pass, begin, length);
      const auto [d_queries, d_k, d_v] = SegmentOf(d_qkv, *pass, begin, length);
      const at::Tensor q = Rows(queries, block), d = Rows(QueriesOf(d_out, *pass, begin, length), block);
      const at::Tensor o = Rows(QueriesOf(saved[1], *pass, begin, length), block);
      const at::Tensor weights = (Scores(q, k, block, scale) - saved[next++]).exp_();
      const at::Tensor values = v.narrow(1, 0, block.end).to(at::kFloat);
      const at::Tensor keys = k.narrow(1, 0, block.end).to(at::kFloat);
      d_v.narrow(1, 0, block.end).add_(at::matmul(weights.transpose(1, 2), d));
      const at::Tensor d_scores =
          (at::matmul(d, values.transpose(1, 2)) - (d * o).sum(2, /*keepdim=*/true)).mul_(weights).mul_(scale);
      const int64_t rows = block.end - block.begin;
      d_queries.narrow(2, block.begin, rows).copy_(at::matmul(d_scores, keys).unflatten(1, {-1, rows}));
      d_k.narrow(1, 0, block.end).add_(at::matmul(d_scores.transpose(1, 2), q));
    });
    at::Tensor rounded = d_qkv.to(qkv.scalar_type());
    RotateInPlace(rounded, *pass, -1);
    return {rounded, at::Tensor(), at::Tensor()};
  }

  // saved_data takes IValues alone: the pointer travels in a capsule.
  struct Holder : torch::CustomClassHolder {
    Holder(PassPtr pass, int64_t size) : pass(std::move(pass)), size(size) {}
    PassPtr pass;
    int64_t size;
  };
};

}  // namespace

at::Tensor BlockedAttention(const at::Tensor& qkv, const PassPtr& pass, int64_t block) {
  return Blocked::apply(qkv, pass, block);
}

}  // namespace studio
