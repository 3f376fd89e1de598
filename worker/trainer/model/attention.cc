#include "worker/trainer/model/attention.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/triu.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "worker/trainer/device/traits.h"
#include "worker/trainer/libtorch/operations.h"
#include "worker/trainer/model/blocked_attention.h"
#include "worker/trainer/model/cpu_kernels.h"
#include "worker/trainer/model/dispatch.h"

namespace studio {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Neighbouring segments of one length: one call for all.
struct Run {
  int64_t begin, segments, length;
};
std::vector<Run> Runs(const std::vector<int32_t>& cu_seqlens) {
  std::vector<Run> runs;
  for (size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const int64_t length = cu_seqlens[i + 1] - cu_seqlens[i];
    if (length == 0) continue;
    if (!runs.empty() && runs.back().length == length) {
      ++runs.back().segments;
    } else {
      runs.push_back({cu_seqlens[i], 1, length});
    }
  }
  return runs;
}

// Heads [first, first + heads) of rows of `x` [T, n * head_dim], as [segments, heads, length, head_dim] without a copy.
at::Tensor View(const at::Tensor& x, const Run& run, int64_t first, int64_t heads, int64_t head_dim) {
  const int64_t stride = x.stride(0);
  return x.as_strided({run.segments, heads, run.length, head_dim}, {run.length * stride, head_dim, stride, 1},
                      x.storage_offset() + run.begin * stride + first * head_dim);
}

struct Heads {
  at::Tensor q, k, v;

  Heads To(at::ScalarType type) const { return {q.to(type), k.to(type), v.to(type)}; }
};
Heads Split(const at::Tensor& qkv, const Run& run, const Pass& pass) {
  return {View(qkv, run, 0, pass.heads, pass.head_dim), View(qkv, run, pass.heads, pass.kv_heads, pass.head_dim),
          View(qkv, run, pass.heads + pass.kv_heads, pass.kv_heads, pass.head_dim)};
}

// The type in which FlashAttention for CPUs takes a run. In bf16 it makes a oneDNN product of each tile, whose overhead
// counts for twice the arithmetic where segments are short: forward and backward of 9 heads of 64 in bf16 and in fp32
// (with the conversions), two threads of an EPYC with avx512_bf16: 16 tokens 0.27 and 0.09 ms, 96 1.09 and 0.62,
// 256 3.2 and 3.2, 1024 29 and 41.
at::ScalarType RunType(const at::Tensor& qkv, const Run& run) {
  constexpr int64_t kShort = 256;
  return run.length < kShort ? at::kFloat : qkv.scalar_type();
}

// LibTorch's FlashAttention for CPUs, run by run.
struct CpuAttention : torch::autograd::Function<CpuAttention> {
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv_in, const PassPtr& pass) {
    at::Tensor qkv = qkv_in;
    RotateInPlace(qkv, *pass, 1);
    at::Tensor out = at::empty({qkv.size(0), pass->heads * pass->head_dim}, qkv.options());
    variable_list saved = {qkv, out};
    for (const Run& run : Runs(pass->cu_seqlens)) {
      const Heads heads = Split(qkv, run, *pass);
      const auto [q, k, v] = heads.To(RunType(qkv, run));
      auto [attended, log_sum] = libtorch::CpuFlashAttention(q, k, v);
      View(out, run, 0, pass->heads, pass->head_dim).copy_(attended);
      saved.push_back(log_sum);
    }
    ctx->save_for_backward(std::move(saved));
    pass_of(ctx) = pass;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const PassPtr pass = pass_of(ctx);
    const at::Tensor& qkv = saved[0];
    const at::Tensor d_out = grads[0].contiguous();
    at::Tensor d_qkv = at::empty_like(qkv);
    size_t next = 2;
    for (const Run& run : Runs(pass->cu_seqlens)) {
      const at::ScalarType type = RunType(qkv, run);
      const auto [q, k, v] = Split(qkv, run, *pass).To(type);
      const auto of_heads = [&](const at::Tensor& x) { return View(x, run, 0, pass->heads, pass->head_dim).to(type); };
      auto [dq, dk, dv] =
          libtorch::CpuFlashAttentionBackward(of_heads(d_out), q, k, v, of_heads(saved[1]), saved[next++]);
      const Heads out = Split(d_qkv, run, *pass);
      out.q.copy_(dq);
      out.k.copy_(dk);
      out.v.copy_(dv);
    }
    RotateInPlace(d_qkv, *pass, -1);
    return {d_qkv, at::Tensor()};
  }

  // saved_data takes IValues alone: the pointer travels in a capsule.
  struct Holder : torch::CustomClassHolder {
    PassPtr pass;
  };
  static PassPtr& pass_of(AutogradContext* ctx) {
    auto& value = ctx->saved_data["pass"];
    if (!value.isCapsule()) value = at::IValue::make_capsule(c10::make_intrusive<Holder>());
    return static_cast<Holder*>(value.toCapsule().get())->pass;
  }
};

// FlashAttention-2 over all segments at once.
struct FlashAttention : torch::autograd::Function<FlashAttention> {
  static std::tuple<at::Tensor, at::Tensor, at::Tensor> Heads3(const at::Tensor& x, const Pass& pass) {
    const at::Tensor heads = x.view({x.size(0), -1, pass.head_dim});
    return {heads.narrow(1, 0, pass.heads), heads.narrow(1, pass.heads, pass.kv_heads),
            heads.narrow(1, pass.heads + pass.kv_heads, pass.kv_heads)};
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& qkv_in, const PassPtr& pass) {
    at::Tensor qkv = qkv_in;
    RotateInPlace(qkv, *pass, 1);
    auto [q, k, v] = Heads3(qkv, *pass);
    auto [out, log_sum, rng_state, unused, debug] =
        at::_flash_attention_forward(q, k, v, pass->cu_seqlens_device, pass->cu_seqlens_device, pass->longest,
                                     pass->longest, 0.0, /*is_causal=*/true, /*return_debug_mask=*/false);
    ctx->save_for_backward({qkv, out, log_sum, rng_state, unused});
    CpuAttention::pass_of(ctx) = pass;
    return out.view({qkv.size(0), -1});
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const PassPtr pass = CpuAttention::pass_of(ctx);
    auto [q, k, v] = Heads3(saved[0], *pass);
    const at::Tensor d_out = grads[0].contiguous().view({saved[0].size(0), pass->heads, pass->head_dim});
    auto [dq, dk, dv] = at::_flash_attention_backward(d_out, q, k, v, saved[1], saved[2], pass->cu_seqlens_device,
                                                      pass->cu_seqlens_device, pass->longest, pass->longest, 0.0,
                                                      /*is_causal=*/true, saved[3], saved[4]);
    at::Tensor d_qkv = at::empty_like(saved[0]);
    auto [out_q, out_k, out_v] = Heads3(d_qkv, *pass);
    out_q.copy_(dq);
    out_k.copy_(dk);
    out_v.copy_(dv);
    RotateInPlace(d_qkv, *pass, -1);
    return {d_qkv, at::Tensor()};
  }
};

// [T, heads, head_dim] turned by LibTorch's operations, with gradients.
at::Tensor Rotated(const at::Tensor& heads, const at::Tensor& cosine, const at::Tensor& sine, double sign) {
  const int64_t half = heads.size(2) / 2;
  const at::Tensor a = heads.narrow(2, 0, half).to(at::kFloat);
  const at::Tensor b = heads.narrow(2, half, half).to(at::kFloat);
  const at::Tensor c = cosine.unsqueeze(1);
  const at::Tensor s = sign == 1 ? sine.unsqueeze(1) : sine.unsqueeze(1) * sign;
  return at::cat({a * c - b * s, b * c + a * s}, 2).to(heads.scalar_type());
}

// The reference, by autograd: any device, type and head size.
at::Tensor PlainAttention(const at::Tensor& qkv, const Pass& pass) {
  const at::Tensor heads = qkv.view({qkv.size(0), -1, pass.head_dim});
  const int64_t turned = pass.heads + pass.kv_heads;
  const at::Tensor qk = Rotated(heads.narrow(1, 0, turned), pass.cosine, pass.sine, 1);
  const at::Tensor v = heads.narrow(1, turned, pass.kv_heads);
  std::vector<at::Tensor> outs;
  for (size_t i = 0; i + 1 < pass.cu_seqlens.size(); ++i) {
    const int64_t begin = pass.cu_seqlens[i];
    const int64_t length = pass.cu_seqlens[i + 1] - begin;
    if (length == 0) continue;
    const int64_t group = pass.heads / pass.kv_heads;
    const auto part = [&](const at::Tensor& x, int64_t first, int64_t count) {
      return x.narrow(0, begin, length).narrow(1, first, count).transpose(0, 1).unsqueeze(0);  // [1, heads, L, D]
    };
    const auto shared = [&](const at::Tensor& x) {  // each group of heads reads the same keys
      return x.unsqueeze(2)
          .expand({1, pass.kv_heads, group, length, pass.head_dim})
          .reshape({1, pass.heads, length, pass.head_dim});
    };
    const at::Tensor q = part(qk, 0, pass.heads);
    const at::Tensor k = shared(part(qk, pass.heads, pass.kv_heads));
    const at::Tensor values = shared(part(v, 0, pass.kv_heads));
    at::Tensor out;
    if (pass.attention == Attention::kEager) {
      const at::Tensor mask = at::triu(
          at::full({length, length}, -std::numeric_limits<float>::infinity(), q.options().dtype(at::kFloat)), 1);
      const at::Tensor scores =
          at::matmul(q, k.transpose(2, 3)).to(at::kFloat) / std::sqrt(static_cast<double>(pass.head_dim)) + mask;
      out = at::matmul(at::softmax(scores, -1).to(q.scalar_type()), values);
    } else {
      // LibTorch chooses between memory-efficient and plain kernels itself.
      out = at::scaled_dot_product_attention(q, k, values, {}, 0.0, /*is_causal=*/true);
    }
    outs.push_back(out.squeeze(0).transpose(0, 1).reshape({length, pass.heads * pass.head_dim}));
  }
  return at::cat(outs, 0);
}

}  // namespace

void RotateInPlace(at::Tensor& qkv, const Pass& pass, double sign) {
  const int64_t turned = pass.heads + pass.kv_heads;
  if (HasCpuKernels(qkv)) {
    DispatchCpu(qkv, [&]<typename T>() {
      cpu::Rotate<T>(Data<T>(qkv), qkv.size(0), qkv.stride(0), turned, pass.head_dim, pass.cosine.data_ptr<float>(),
                     pass.sine.data_ptr<float>(), static_cast<float>(sign));
    });
    return;
  }
  const at::Tensor heads = qkv.view({qkv.size(0), -1, pass.head_dim}).narrow(1, 0, turned);
  heads.copy_(Rotated(heads, pass.cosine, pass.sine, sign));
}

absl::StatusOr<Attention> ResolveAttention(Attention asked, at::Device device, at::ScalarType dtype, int64_t head_dim) {
  if (asked != Attention::kAuto && asked != Attention::kFlash) return asked;
  const std::string why = WhyNoFlashAttention(TraitsOf(device), dtype, head_dim);
  if (why.empty()) return Attention::kFlash;
  if (asked == Attention::kAuto) return Attention::kSdpa;
  return absl::InvalidArgumentError(
      absl::StrCat("training.attention_implementation: FLASH_ATTENTION_2 does not run here: ", why, "; use SDPA"));
}

at::Tensor SelfAttention(const at::Tensor& qkv, const PassPtr& pass) {
  if (pass->attention == Attention::kFlash) return FlashAttention::apply(qkv, pass);
  if (pass->attention == Attention::kSdpa && HasCpuKernels(qkv)) return CpuAttention::apply(qkv, pass);
  if (pass->attention == Attention::kSdpa && !AttentionIsLinear(qkv.device())) return BlockedAttention(qkv, pass);
  return PlainAttention(qkv, *pass);
}

}  // namespace studio
