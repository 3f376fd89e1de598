#include "worker/trainer/kernels/shapes.h"

#include <initializer_list>

#include "common/status/check.h"

namespace studio::kernels {
namespace {

bool IsCompute(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }

// The argument's name, what it is and what it should be.
void CheckSizes(const char* name, const at::Tensor& x, at::IntArrayRef sizes, at::ScalarType type) {
  STUDIO_CHECK(x.defined() && x.sizes() == sizes && x.scalar_type() == type)
      << name << (x.defined() ? "" : " undefined") << " has sizes " << (x.defined() ? x.sizes() : at::IntArrayRef())
      << " where " << sizes << " of " << at::toString(type) << " is asked for";
}

// A matrix whose rows may lie apart.
void CheckRows(const char* name, const at::Tensor& x, int64_t rows, int64_t width, at::ScalarType type) {
  CheckSizes(name, x, {rows, width}, type);
  STUDIO_CHECK(IsCompute(type)) << name << " is " << at::toString(type) << ", not bfloat16 or float";
  STUDIO_CHECK((width <= 1 || x.stride(1) == 1) && (rows <= 1 || x.stride(0) >= width))
      << name << " has strides " << x.strides();
}

void CheckFlat(const char* name, const at::Tensor& x, at::IntArrayRef sizes, at::ScalarType type) {
  CheckSizes(name, x, sizes, type);
  STUDIO_CHECK(x.is_contiguous()) << name << " has strides " << x.strides();
}

void CheckMatrix(const char* name, const at::Tensor& x) {
  STUDIO_CHECK(x.defined() && x.dim() == 2 && x.size(0) > 0 && x.size(1) > 0) << name << " is no matrix with rows";
}

void CheckAngles(const at::Tensor& cosine, const at::Tensor& sine, int64_t rows, int64_t head_dim) {
  // NOLINTNEXTLINE(bugprone-infinite-loop): the check ends the program
  STUDIO_CHECK(head_dim > 0 && head_dim % 2 == 0) << "head_dim " << head_dim << " is odd";
  CheckFlat("cosine", cosine, {rows, head_dim / 2}, at::kFloat);
  CheckFlat("sine", sine, {rows, head_dim / 2}, at::kFloat);
}

}  // namespace

void CheckRmsNormForward(const at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight,
                         const at::Tensor& normed, const at::Tensor& rstd) {
  CheckMatrix("residual", residual);
  const int64_t rows = residual.size(0), width = residual.size(1);
  CheckRows("residual", residual, rows, width, residual.scalar_type());
  if (delta.defined()) CheckRows("delta", delta, rows, width, residual.scalar_type());
  CheckFlat("weight", weight, {width}, residual.scalar_type());
  CheckRows("normed", normed, rows, width, residual.scalar_type());
  CheckFlat("rstd", rstd, {rows}, at::kFloat);
}

void CheckRmsNormBackward(const at::Tensor& d_normed, const at::Tensor& normed, const at::Tensor& weight,
                          const at::Tensor& rstd, const at::Tensor& d_residual, const at::Tensor& d_weight) {
  CheckMatrix("normed", normed);
  const int64_t rows = normed.size(0), width = normed.size(1);
  CheckRows("d_normed", d_normed, rows, width, normed.scalar_type());
  CheckRows("normed", normed, rows, width, normed.scalar_type());
  CheckFlat("weight", weight, {width}, normed.scalar_type());
  CheckFlat("rstd", rstd, {rows}, at::kFloat);
  CheckRows("d_residual", d_residual, rows, width, normed.scalar_type());
  if (d_weight.defined()) CheckFlat("d_weight", d_weight, {width}, at::kFloat);
}

void CheckRope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, int64_t heads,
               int64_t head_dim) {
  CheckMatrix("qkv", qkv);
  CheckRows("qkv", qkv, qkv.size(0), qkv.size(1), qkv.scalar_type());
  STUDIO_CHECK(heads > 0 && heads * head_dim <= qkv.size(1))
      << heads << " heads of " << head_dim << " in rows of " << qkv.size(1);
  CheckAngles(cosine, sine, qkv.size(0), head_dim);
}

void CheckRopeBackward(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv, const at::Tensor& cosine,
                       const at::Tensor& sine, const at::Tensor& d_qkv) {
  CheckMatrix("d_qkv", d_qkv);
  STUDIO_CHECK(dq.dim() == 4 && dk.dim() == 4) << "dq has " << dq.dim() << " dimensions, dk " << dk.dim();
  const int64_t batch = dq.size(0), length = dq.size(2), head_dim = dq.size(3), kv = dk.size(1);
  const at::ScalarType type = d_qkv.scalar_type();
  CheckSizes("dk", dk, {batch, kv, length, head_dim}, type);
  CheckSizes("dv", dv, {batch, kv, length, head_dim}, type);
  for (const at::Tensor& x : {dq, dk, dv}) STUDIO_CHECK(x.stride(3) == 1 && x.scalar_type() == type) << x.strides();
  CheckRows("d_qkv", d_qkv, batch * length, (dq.size(1) + 2 * kv) * head_dim, type);
  CheckAngles(cosine, sine, batch * length, head_dim);
}

void CheckGluForward(const at::Tensor& gate_up, const at::Tensor& out) {
  CheckMatrix("gate_up", gate_up);
  STUDIO_CHECK(gate_up.size(1) % 2 == 0) << "gate_up has rows of " << gate_up.size(1);
  CheckRows("gate_up", gate_up, gate_up.size(0), gate_up.size(1), gate_up.scalar_type());
  CheckRows("out", out, gate_up.size(0), gate_up.size(1) / 2, gate_up.scalar_type());
}

void CheckGluAdapter(const at::Tensor& gate_up, const at::Tensor& a, const at::Tensor& out, const at::Tensor& low) {
  CheckGluForward(gate_up, out);
  CheckMatrix("a", a);
  CheckRows("a", a, a.size(0), out.size(1), out.scalar_type());
  CheckRows("low", low, out.size(0), a.size(0), out.scalar_type());
}

void CheckGluBackward(const at::Tensor& d_out, const at::Tensor& gate_up, const at::Tensor& out) {
  CheckGluForward(gate_up, d_out);
  if (out.defined()) CheckGluForward(gate_up, out);
}

void CheckGluAdapters(const at::Tensor& d_out, const at::Tensor& gate_up, const GluAdapters& adapters) {
  CheckGluBackward(d_out, gate_up, at::Tensor());
  CheckMatrix("down_low", adapters.down_low);
  const int64_t rows = d_out.size(0), width = d_out.size(1), rank = adapters.down_low.size(1);
  CheckRows("down_low", adapters.down_low, rows, rank, d_out.scalar_type());
  CheckRows("gate_low", adapters.gate_low, rows, rank, d_out.scalar_type());
  CheckRows("up_low", adapters.up_low, rows, rank, d_out.scalar_type());
  CheckRows("down_a", adapters.down_a, rank, width, at::kFloat);
  CheckFlat("gate_b", adapters.gate_b, {width, rank}, at::kFloat);
  CheckFlat("up_b", adapters.up_b, {width, rank}, at::kFloat);
}

void CheckDropped(const at::Tensor& x, const at::Tensor& a, const at::Tensor& low, const AdapterDropout& dropout) {
  CheckMatrix("x", x);
  CheckMatrix("a", a);
  CheckMatrix("low", low);
  const auto adapters = static_cast<int64_t>(dropout.adapters());
  // NOLINTNEXTLINE(bugprone-infinite-loop): the check ends the program
  STUDIO_CHECK(adapters > 0 && a.size(0) % adapters == 0 && low.size(1) >= a.size(0))
      << adapters << " adapters of " << a.size(0) << " ranks in " << low.size(1) << " columns";
  CheckRows("x", x, x.size(0), x.size(1), x.scalar_type());
  CheckRows("a", a, a.size(0), x.size(1), a.scalar_type());
  CheckRows("low", low, x.size(0), low.size(1), x.scalar_type());
  CheckFlat("ids", dropout.ids, {x.size(0)}, at::kLong);
  CheckFlat("step_key", dropout.step_key, {}, at::kLong);
}

void CheckAdapterGradient(const AdapterGradient& gradient) {
  const at::Tensor &narrow = gradient.narrow, &wide = gradient.wide;
  CheckMatrix("narrow", narrow);
  CheckMatrix("wide", wide);
  CheckRows("narrow", narrow, wide.size(0), narrow.size(1), wide.scalar_type());
  CheckRows("wide", wide, wide.size(0), wide.size(1), wide.scalar_type());
  const int64_t r = narrow.size(1), n = wide.size(1);
  CheckFlat("grad", gradient.grad, gradient.transposed ? at::IntArrayRef({n, r}) : at::IntArrayRef({r, n}), at::kFloat);
  const AdapterDropout& dropout = gradient.dropout;
  if (!dropout.ids.defined()) return;
  CheckFlat("ids", dropout.ids, {wide.size(0)}, at::kLong);
  CheckFlat("step_key", dropout.step_key, {}, at::kLong);
  STUDIO_CHECK(gradient.which < dropout.adapters()) << "adapter " << gradient.which << " of " << dropout.adapters();
}

void CheckCrossEntropy(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& scale,
                       const at::Tensor& losses) {
  CheckMatrix("logits", logits);
  CheckRows("logits", logits, logits.size(0), logits.size(1), logits.scalar_type());
  CheckFlat("labels", labels, {logits.size(0)}, at::kLong);
  CheckFlat("scale", scale, {}, at::kFloat);
  CheckFlat("losses", losses, {logits.size(0)}, at::kFloat);
}

void CheckEmbeddingGradient(const at::Tensor& d_hidden, const at::Tensor& tokens, const at::Tensor& grad) {
  CheckMatrix("d_hidden", d_hidden);
  CheckMatrix("grad", grad);
  CheckRows("d_hidden", d_hidden, d_hidden.size(0), d_hidden.size(1), d_hidden.scalar_type());
  CheckFlat("tokens", tokens, {d_hidden.size(0)}, at::kLong);
  const bool narrow = grad.scalar_type() == d_hidden.scalar_type();
  CheckFlat("grad", grad, {grad.size(0), d_hidden.size(1)}, narrow ? d_hidden.scalar_type() : at::kFloat);
}

void CheckSumOfSquares(const at::Tensor& flat, const at::Tensor& sum) {
  STUDIO_CHECK(flat.dim() == 1) << "flat has " << flat.dim() << " dimensions";
  CheckFlat("flat", flat, {flat.size(0)}, flat.scalar_type());
  STUDIO_CHECK(IsCompute(flat.scalar_type())) << "flat is " << at::toString(flat.scalar_type());
  CheckFlat("sum", sum, {}, at::kFloat);
}

void CheckAdamW(const AdamWPart& part, at::ScalarType type, const at::Tensor& sum_of_squares, int64_t step) {
  STUDIO_CHECK(part.weights.dim() == 1) << "weights have " << part.weights.dim() << " dimensions";
  CheckFlat("weights", part.weights, part.weights.sizes(), type);
  CheckFlat("grad", part.grad, part.weights.sizes(), type);
  CheckFlat("exp_avg", part.exp_avg, part.weights.sizes(), type);
  CheckFlat("exp_avg_sq", part.exp_avg_sq, part.weights.sizes(), type);
  CheckFlat("sum_of_squares", sum_of_squares, {}, at::kFloat);
  STUDIO_CHECK(step >= 1) << "step " << step;  // NOLINT(bugprone-infinite-loop): the check ends the program
}

void CheckScaledCopy(const ScaledCopy& copy) {
  CheckMatrix("to", copy.to);
  CheckFlat("from", copy.from, copy.to.sizes(), at::kFloat);
}

}  // namespace studio::kernels
