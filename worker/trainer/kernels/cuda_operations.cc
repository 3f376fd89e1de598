#include "worker/trainer/kernels/cuda_operations.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sort.h>

#include <algorithm>
#include <span>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "worker/trainer/kernels/aten_operations.h"
#include "worker/trainer/kernels/compiler.h"
#include "worker/trainer/kernels/cuda_module.h"
#include "worker/trainer/kernels/cuda_source.h"
#include "worker/trainer/kernels/kernel_arguments.h"
#include "worker/trainer/kernels/launch_plan.h"
#include "worker/trainer/kernels/shapes.h"

namespace studio::kernels {
namespace {

constexpr int64_t kMaxSquaresBlocks = 1024;

// A kernel takes pointers as they come; null where a tensor is not wanted.
void* Pointer(const at::Tensor& x) { return x.defined() ? x.data_ptr() : nullptr; }
long long RowStride(const at::Tensor& x) { return x.defined() ? x.stride(0) : 0; }
int Width(const at::Tensor& x) { return static_cast<int>(x.size(1)); }

// 16 bytes, else an element.
int Access(at::ScalarType type, int64_t extent, std::initializer_list<at::Tensor> tensors) {
  std::vector<Layout> layouts;
  for (const at::Tensor& x : tensors) {
    if (x.defined()) layouts.push_back(LayoutOf(x));
  }
  return type == at::kBFloat16 ? WidestAccess({8, 1}, {extent}, layouts) : WidestAccess({4, 1}, {extent}, layouts);
}

// Halves of heads: 8 bytes too.
int HalfAccess(at::ScalarType type, int64_t half, std::initializer_list<at::Tensor> tensors) {
  std::vector<Layout> layouts;
  for (const at::Tensor& x : tensors) layouts.push_back(LayoutOf(x));
  return type == at::kBFloat16 ? WidestAccess({8, 4, 1}, {half}, layouts) : WidestAccess({4, 1}, {half}, layouts);
}

// Whether cuda/adapter_gradients.cu takes it.
bool IsAdapterProblem(const AdapterGradient& gradient) {
  const at::Tensor &narrow = gradient.narrow, &wide = gradient.wide;
  return wide.scalar_type() == at::kBFloat16 && wide.size(1) % 64 == 0 && wide.size(0) <= INT32_MAX &&
         Access(at::kBFloat16, wide.size(1), {wide}) == 8 &&
         WidestAccess({2, 1}, {narrow.size(1)}, {LayoutOf(narrow)}) == 2 && gradient.dropout.adapters() <= kMostDropped;
}

// One for each 16 ranks.
void AddProblems(const AdapterGradient& gradient, std::vector<AdapterProblem>& problems) {
  const auto& [narrow, wide, grad, scale, transposed, dropout, which] = gradient;
  const int64_t rank = narrow.size(1);
  const bool drops = dropout.ids.defined();
  for (int64_t first = 0; first < rank; first += 16) {
    const int64_t ranks = std::min<int64_t>(rank - first, 16);
    const at::Tensor some = narrow.narrow(1, first, ranks), to = grad.narrow(transposed ? 1 : 0, first, ranks);
    problems.push_back({.narrow = Pointer(some),
                        .wide = Pointer(wide),
                        .grad = Pointer(to),
                        .narrow_stride = RowStride(some),
                        .wide_stride = RowStride(wide),
                        .grad_stride = RowStride(to),
                        .site = drops ? dropout.sites[which] : 0,
                        .scale = static_cast<float>(drops ? scale * dropout.Kept() : scale),
                        .ranks = static_cast<int>(ranks),
                        .blocks = static_cast<int>(wide.size(1) / 64),
                        .transposed = transposed,
                        .drops = drops});
  }
}

absl::string_view GluName(Activation activation, bool forward) {
  if (activation == Activation::kSilu) return forward ? "silu_forward" : "silu_backward";
  return forward ? "gelu_forward" : "gelu_backward";
}

std::string GluAdapterName(Activation activation, absl::string_view kind, bool drops) {
  return absl::StrCat(activation == Activation::kSilu ? "silu_" : "gelu_", kind, drops ? "_dropped" : "", "_bf16");
}

class CudaOperations final : public Operations {
 public:
  CudaOperations(c10::Device device, CudaDeviceKind kind, std::unique_ptr<CudaModule> module)
      : device_(device), kind_(std::move(kind)), module_(std::move(module)), aten_(MakeAtenOperations()) {}

  std::string name() const override { return absl::StrCat("CUDA ", kind_.architecture); }

  void RmsNormForward(const at::Tensor& residual, const at::Tensor& delta, const at::Tensor& weight, double eps,
                      const at::Tensor& normed, const at::Tensor& rstd) const override {
    CheckRmsNormForward(residual, delta, weight, normed, rstd);
    const at::ScalarType type = residual.scalar_type();
    const int access = Access(type, residual.size(1), {residual, delta, weight, normed});
    const auto launch = RowLaunch("rms_forward", type, access, residual.size(0), residual.size(1), kRowThreads);
    if (!launch) return aten_->RmsNormForward(residual, delta, weight, eps, normed, rstd);
    (*module_)(*launch, Pointer(residual), Pointer(delta), Pointer(weight), Pointer(normed), Pointer(rstd),
               Width(residual), RowStride(residual), RowStride(delta), RowStride(normed), static_cast<float>(eps));
  }

  void RmsNormBackward(const at::Tensor& d_normed, const at::Tensor& normed, const at::Tensor& weight,
                       const at::Tensor& rstd, bool accumulate, const at::Tensor& d_residual,
                       const at::Tensor& d_weight) const override {
    CheckRmsNormBackward(d_normed, normed, weight, rstd, d_residual, d_weight);
    const at::ScalarType type = normed.scalar_type();
    const int64_t rows = normed.size(0), width = normed.size(1);
    const int access = Access(type, width, {d_normed, normed, weight, d_residual});
    const bool train = d_weight.defined();
    auto launch = RowLaunch(train ? "rms_backward_dw" : "rms_backward", type, access, rows, width,
                            train ? kWeightThreads : kRowThreads);
    if (!launch || rows > INT32_MAX) {
      return aten_->RmsNormBackward(d_normed, normed, weight, rstd, accumulate, d_residual, d_weight);
    }
    // Each block of the training kernel keeps a share of d_weight: as few blocks as fill the device.
    const int64_t filling =
        int64_t{kind_.limits.multiprocessors} * std::max<int64_t>(kWeightThreads / launch->block, 1);
    const int64_t blocks = train ? std::min(rows, filling) : rows;
    launch->grid = static_cast<unsigned>(blocks);
    const at::Tensor partial = train ? at::empty({blocks, width}, d_weight.options()) : at::Tensor();
    (*module_)(*launch, Pointer(d_normed), Pointer(normed), Pointer(weight), Pointer(rstd), Pointer(d_residual),
               Pointer(partial), static_cast<int>(rows), Width(normed), static_cast<int>(accumulate),
               RowStride(d_normed), RowStride(normed), RowStride(d_residual));
    if (!train) return;
    (*module_)({"rms_d_weight", static_cast<unsigned>((width + 31) / 32), 32, 1, 8}, Pointer(partial),
               Pointer(d_weight), static_cast<int>(blocks), Width(normed));
  }

  void RopeInPlace(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, int64_t heads,
                   int64_t head_dim, int sign) const override {
    CheckRope(qkv, cosine, sine, heads, head_dim);
    const int64_t half = head_dim / 2;
    const int access = HalfAccess(qkv.scalar_type(), half, {qkv, cosine, sine});
    const int64_t threads = qkv.size(0) * heads * (half / access);
    const auto launch = FlatLaunch("rope", qkv.scalar_type(), access, threads);
    if (!launch) return aten_->RopeInPlace(qkv, cosine, sine, heads, head_dim, sign);
    (*module_)(*launch, Pointer(qkv), Pointer(cosine), Pointer(sine), static_cast<unsigned>(threads),
               static_cast<unsigned>(heads), static_cast<unsigned>(half), RowStride(qkv), static_cast<float>(sign));
  }

  void RopeBackwardGather(const at::Tensor& dq, const at::Tensor& dk, const at::Tensor& dv, const at::Tensor& cosine,
                          const at::Tensor& sine, const at::Tensor& d_qkv) const override {
    CheckRopeBackward(dq, dk, dv, cosine, sine, d_qkv);
    const int64_t half = dq.size(3) / 2, heads = dq.size(1), kv_heads = dk.size(1);
    const int access = HalfAccess(d_qkv.scalar_type(), half, {dq, dk, dv, d_qkv, cosine, sine});
    const int64_t threads = d_qkv.size(0) * (heads + 2 * kv_heads) * (half / access);
    const auto launch = FlatLaunch("rope_gather", d_qkv.scalar_type(), access, threads);
    if (!launch) return aten_->RopeBackwardGather(dq, dk, dv, cosine, sine, d_qkv);
    (*module_)(*launch, Pointer(dq), Pointer(dk), Pointer(dv), StridesOf(dq), StridesOf(dk), StridesOf(dv),
               Pointer(cosine), Pointer(sine), Pointer(d_qkv), static_cast<unsigned>(threads),
               static_cast<unsigned>(heads), static_cast<unsigned>(kv_heads), static_cast<unsigned>(dq.size(2)),
               static_cast<unsigned>(half), RowStride(d_qkv));
  }

  void GluForward(Activation activation, const at::Tensor& gate_up, const at::Tensor& out) const override {
    CheckGluForward(gate_up, out);
    const int access = Access(out.scalar_type(), out.size(1), {gate_up, out});
    const int64_t threads = out.size(0) * (out.size(1) / access);
    const auto launch = FlatLaunch(GluName(activation, true), out.scalar_type(), access, threads);
    if (!launch) return aten_->GluForward(activation, gate_up, out);
    (*module_)(*launch, Pointer(gate_up), Pointer(out), static_cast<unsigned>(threads),
               static_cast<unsigned>(out.size(1)), RowStride(gate_up), RowStride(out));
  }

  void GluForwardWithAdapter(Activation activation, const at::Tensor& gate_up, const at::Tensor& a,
                             const AdapterDropout& dropout, const at::Tensor& out,
                             const at::Tensor& low) const override {
    CheckGluAdapter(gate_up, a, out, low);
    constexpr int64_t kTokens = 16;  // of a block: cuda/glu_low_rank.cu
    const int64_t rows = out.size(0), width = out.size(1), rank = a.size(0);
    const bool wide = Access(out.scalar_type(), width, {gate_up, a, out}) == 8;
    if (!wide || width % 32 != 0 || rank > 16 || rows > INT32_MAX) {
      return aten_->GluForwardWithAdapter(activation, gate_up, a, dropout, out, low);
    }
    const bool drops = dropout.ids.defined();
    const int64_t blocks = DivideUp(rows, kTokens);
    if (blocks < kind_.limits.multiprocessors) {
      // Part of the device would be idle (512 rows on an H200: 47 us); two launches take a quarter of that.
      GluForward(activation, gate_up, out);
      if (drops) return DroppedLow(out, a, dropout, low);
      at::Tensor product = low;
      at::mm_out(product, out, a.t());
      return;
    }
    (*module_)({GluAdapterName(activation, "low_rank", drops), static_cast<unsigned>(blocks), 256}, Pointer(gate_up),
               Pointer(a), Pointer(out), Pointer(low), drops ? NumbersOf(dropout) : DropoutNumbers{},
               static_cast<int>(rows), Width(out), static_cast<int>(rank), RowStride(gate_up), RowStride(a),
               RowStride(out), RowStride(low));
  }

  void GluBackward(Activation activation, const at::Tensor& d_out, const at::Tensor& gate_up,
                   const at::Tensor& out) const override {
    CheckGluBackward(d_out, gate_up, out);
    const int access = Access(d_out.scalar_type(), d_out.size(1), {d_out, gate_up, out});
    const int64_t threads = d_out.size(0) * (d_out.size(1) / access);
    const auto launch = FlatLaunch(GluName(activation, false), d_out.scalar_type(), access, threads);
    if (!launch) return aten_->GluBackward(activation, d_out, gate_up, out);
    (*module_)(*launch, Pointer(d_out), Pointer(gate_up), Pointer(out), static_cast<unsigned>(threads),
               static_cast<unsigned>(d_out.size(1)), RowStride(d_out), RowStride(gate_up), RowStride(out));
  }

  void GluBackwardWithAdapters(Activation activation, const at::Tensor& d_out, const at::Tensor& gate_up,
                               const GluAdapters& adapters) const override {
    CheckGluAdapters(d_out, gate_up, adapters);
    const int64_t rows = d_out.size(0), width = d_out.size(1), rank = adapters.down_low.size(1);
    const std::optional<AdapterLaunch> plan = PlanGluAdapters(
        d_out.scalar_type(), rows, width, rank, kind_.limits.multiprocessors, {LayoutOf(d_out), LayoutOf(gate_up)},
        {LayoutOf(adapters.down_low), LayoutOf(adapters.gate_low), LayoutOf(adapters.up_low)});
    if (!plan) return aten_->GluBackwardWithAdapters(activation, d_out, gate_up, adapters);
    const LowRank low{Pointer(adapters.down_low),   Pointer(adapters.gate_low),   Pointer(adapters.up_low),
                      RowStride(adapters.down_low), RowStride(adapters.gate_low), RowStride(adapters.up_low)};
    const at::Tensor partial = at::empty({plan->chunks, 3, 16, width}, adapters.gate_b.options());
    const bool drops = adapters.dropout.ids.defined();
    const DropoutNumbers dropout = drops ? NumbersOf(adapters.dropout) : DropoutNumbers{};
    (*module_)(
        {GluAdapterName(activation, "adapters", drops), plan->column_blocks, 128, static_cast<unsigned>(plan->chunks)},
        Pointer(d_out), Pointer(gate_up), low, dropout, Pointer(partial), static_cast<int>(rows), Width(d_out),
        static_cast<int>(rank), static_cast<int>(plan->chunk_rows), RowStride(d_out), RowStride(gate_up));
    (*module_)({"glu_adapter_sums", plan->column_blocks, 1024, 3}, Pointer(partial), Pointer(adapters.down_a),
               Pointer(adapters.gate_b), Pointer(adapters.up_b), static_cast<int>(plan->chunks), Width(d_out),
               static_cast<int>(rank), drops ? dropout.kept : 1.0f, static_cast<float>(adapters.b_scale),
               RowStride(adapters.down_a));
  }

  void DroppedLow(const at::Tensor& x, const at::Tensor& a, const AdapterDropout& dropout,
                  const at::Tensor& low) const override {
    CheckDropped(x, a, low, dropout);
    const std::optional<int64_t> rank = DroppedRank(dropout, {x, a}, a.size(0), low);
    if (!rank) return aten_->DroppedLow(x, a, dropout, low);
    const int64_t blocks = DivideUp(x.size(0), 16) * a.size(0) / *rank * DivideUp(*rank, 16);
    (*module_)({"dropped_low_bf16", static_cast<unsigned>(blocks), 256}, Pointer(x), Pointer(a), Pointer(low),
               NumbersOf(dropout), static_cast<int>(x.size(0)), Width(x), static_cast<int>(*rank),
               static_cast<int>(dropout.adapters()), Width(low), RowStride(x), RowStride(a), RowStride(low));
  }

  void AddAdapterGradients(const std::vector<AdapterGradient>& gradients) const override {
    if (gradients.empty()) return;
    std::vector<AdapterGradient> others;
    std::vector<AdapterProblem> problems;
    DropoutNumbers dropout{};
    for (const AdapterGradient& gradient : gradients) {
      CheckAdapterGradient(gradient);
      STUDIO_CHECK(gradient.wide.size(0) == gradients[0].wide.size(0)) << "gradients of other tokens";
      if (!IsAdapterProblem(gradient)) {
        others.push_back(gradient);
        continue;
      }
      if (gradient.dropout.ids.defined()) dropout = NumbersOf(gradient.dropout);
      AddProblems(gradient, problems);
    }
    if (!others.empty()) aten_->AddAdapterGradients(others);
    for (size_t begin = 0; begin < problems.size(); begin += kMostProblems) {
      const size_t count = std::min(problems.size() - begin, kMostProblems);
      LaunchProblems({&problems[begin], count}, dropout, gradients[0].wide.size(0));
    }
  }

  void AddDroppedBackward(const at::Tensor& d_low, const at::Tensor& a, const AdapterDropout& dropout,
                          const at::Tensor& dx) const override {
    CheckDropped(dx, a, d_low, dropout);
    const std::optional<int64_t> rank = DroppedRank(dropout, {dx, a}, a.size(0), d_low);
    if (!rank) return aten_->AddDroppedBackward(d_low, a, dropout, dx);
    const int64_t columns = ColumnsOfABlock(dx.size(0), dx.size(1), kind_.limits.multiprocessors);
    constexpr int64_t kTokens = 64;  // of a block: cuda/dropped_products.cu
    const char* const kernel = *rank <= 16 ? "add_dropped_held_bf16" : "add_dropped_bf16";
    (*module_)({kernel, static_cast<unsigned>(DivideUp(dx.size(0), kTokens)), 256,
                static_cast<unsigned>(DivideUp(dx.size(1), columns))},
               Pointer(d_low), Pointer(a), Pointer(dx), NumbersOf(dropout), static_cast<int>(dx.size(0)), Width(dx),
               static_cast<int>(*rank), static_cast<int>(dropout.adapters()), static_cast<int>(columns),
               RowStride(d_low), RowStride(a), RowStride(dx));
  }

  void CrossEntropyInPlace(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& scale, double soft_cap,
                           const at::Tensor& losses) const override {
    CheckCrossEntropy(logits, labels, scale, losses);
    Launch launch =
        CrossEntropyLaunch(logits.scalar_type(), logits.size(0), logits.size(1), LayoutOf(logits), kind_.limits);
    if (soft_cap > 0) launch.kernel += "_capped";
    (*module_)(launch, Pointer(logits), Pointer(labels), Pointer(losses), Width(logits), RowStride(logits),
               Pointer(scale), static_cast<float>(soft_cap));
  }

  void EmbeddingGradient(const at::Tensor& d_hidden, const at::Tensor& tokens, const at::Tensor& grad) const override {
    CheckEmbeddingGradient(d_hidden, tokens, grad);
    const at::NoGradGuard no_grad;
    // 32 bits are sorted in half the passes.
    const auto [sorted, place] = at::sort(tokens.to(at::kInt), /*stable=*/true, /*dim=*/0, /*descending=*/false);
    const int64_t rows = d_hidden.size(0), width = d_hidden.size(1);
    const int access = Access(d_hidden.scalar_type(), width, {d_hidden, grad});
    const unsigned block = 128;
    const char* const into = grad.scalar_type() == at::kFloat ? "" : "into_bf16_";
    const Launch launch{absl::StrCat("embedding_gradient_", into, TypeName(d_hidden.scalar_type()), "_v", access),
                        static_cast<unsigned>(rows), block,
                        static_cast<unsigned>((width / access + block - 1) / block)};
    (*module_)(launch, Pointer(d_hidden), Pointer(sorted), Pointer(place), Pointer(grad), static_cast<int>(rows),
               Width(d_hidden), RowStride(d_hidden));
  }

  void SumOfSquares(const at::Tensor& flat, const at::Tensor& sum) const override {
    CheckSumOfSquares(flat, sum);
    const unsigned block = 512;
    const int64_t blocks = std::clamp<int64_t>(flat.size(0) / (int64_t{4} * block), 1, kMaxSquaresBlocks);
    const at::Tensor partial = at::empty({blocks}, sum.options());
    (*module_)({absl::StrCat("squares_partial_", TypeName(flat.scalar_type())), static_cast<unsigned>(blocks), block},
               Pointer(flat), Pointer(partial), static_cast<long long>(flat.size(0)));
    (*module_)({"squares_total", 1, block}, Pointer(partial), Pointer(sum), static_cast<int>(blocks));
  }

  void AdamWStep(const std::vector<AdamWPart>& parts, const at::Tensor& sum_of_squares, const AdamWOptions& options,
                 double learning_rate, int64_t step) const override {
    if (parts.empty()) return;
    STUDIO_CHECK(parts.size() <= kMostEntries) << parts.size() << " parameters in one step";
    int64_t most = 0;
    const at::Tensor table = Table<AdamWEntry>(parts, [&](const AdamWPart& part) -> AdamWEntry {
      CheckAdamW(part, at::kFloat, sum_of_squares, step);
      const int64_t count = part.weights.numel();
      most = std::max(most, count);
      const bool wide = Access(at::kFloat, 4, {part.weights, part.grad, part.exp_avg, part.exp_avg_sq}) == 4;
      return {
          Pointer(part.weights),         Pointer(part.grad),           Pointer(part.exp_avg), Pointer(part.exp_avg_sq),
          static_cast<long long>(count), static_cast<int>(part.decay), static_cast<int>(wide)};
    });
    // A thread takes some 16 elements of the longest part.
    const unsigned block = 256;
    const auto blocks = static_cast<unsigned>(std::clamp<int64_t>(most / (int64_t{16} * block), 1, 1024));
    (*module_)({"adamw_f32", blocks, block, static_cast<unsigned>(parts.size())}, Pointer(table),
               Pointer(sum_of_squares), NumbersOf(options, learning_rate, step));
  }

  void AdamWStepByChance(const AdamWPart& part, const at::Tensor& sum_of_squares, const AdamWOptions& options,
                         double learning_rate, int64_t step, uint64_t key, uint64_t first) const override {
    CheckAdamW(part, at::kBFloat16, sum_of_squares, step);
    const int64_t count = part.weights.numel();
    if (count == 0) return;
    const int access = Access(at::kBFloat16, count, {part.weights, part.grad, part.exp_avg, part.exp_avg_sq});
    const auto launch = FlatLaunch("adamw_by_chance", at::kBFloat16, access, count / access);
    if (!launch) return aten_->AdamWStepByChance(part, sum_of_squares, options, learning_rate, step, key, first);
    AdamWNumbers numbers = NumbersOf(options, learning_rate, step);
    if (!part.decay) numbers.kept = 1;
    (*module_)(*launch, Pointer(part.weights), Pointer(part.grad), Pointer(part.exp_avg), Pointer(part.exp_avg_sq),
               Pointer(sum_of_squares), static_cast<long long>(count), numbers, static_cast<unsigned long long>(key),
               static_cast<unsigned long long>(first));
  }

  void CopyScaled(const std::vector<ScaledCopy>& copies) const override {
    if (copies.empty()) return;
    STUDIO_CHECK(copies.size() <= kMostEntries) << copies.size() << " copies";
    const at::ScalarType type = copies[0].to.scalar_type();
    int64_t most = 0;
    const at::Tensor table = Table<CopyEntry>(copies, [&](const ScaledCopy& copy) -> CopyEntry {
      const auto& [from, to, scale] = copy;
      CheckScaledCopy(copy);
      STUDIO_CHECK(to.scalar_type() == type && from.numel() <= INT32_MAX) << "a copy of another type, or too long";
      most = std::max(most, from.numel());
      return {Pointer(from),
              Pointer(to),
              RowStride(to),
              Width(to),
              static_cast<int>(from.numel()),
              static_cast<float>(scale)};
    });
    const unsigned block = 256;
    const auto blocks = static_cast<unsigned>(std::clamp<int64_t>(most / (int64_t{8} * block), 1, 1024));
    (*module_)({absl::StrCat("scaled_copies_", TypeName(type)), blocks, block, static_cast<unsigned>(copies.size())},
               Pointer(table));
  }

 private:
  // A grid's y counts them.
  static constexpr size_t kMostEntries = 65535;

  void LaunchProblems(std::span<const AdapterProblem> some, const DropoutNumbers& dropout, int64_t rows) const {
    AdapterProblems problems{};
    std::copy(some.begin(), some.end(), problems.each);
    unsigned blocks = 0;
    for (const AdapterProblem& problem : some) blocks += static_cast<unsigned>(problem.blocks);
    const AdapterLaunch plan = PlanAdapterGradients(blocks, rows, kind_.limits.multiprocessors);
    at::Tensor partial;
    if (plan.chunks > 1) {
      partial = at::empty({plan.chunks, blocks, 16, 64}, at::TensorOptions(device_).dtype(at::kFloat));
    }
    const char* const kernel = plan.chunks > 1 ? "adapter_gradients_w4" : "adapter_gradients_w8";
    (*module_)({kernel, blocks, plan.chunks > 1 ? 128u : 256u, static_cast<unsigned>(plan.chunks)}, problems, dropout,
               Pointer(partial), static_cast<int>(rows), static_cast<int>(plan.chunk_rows));
    if (plan.chunks > 1) {
      (*module_)({"adapter_gradient_sums", blocks, 1024}, problems, Pointer(partial), static_cast<int>(plan.chunks));
    }
  }

  // The rank of each adapter of `ranks` together, where cuda/dropped_products.cu takes them: `wide` read by 16 bytes,
  // `low` by 4.
  static std::optional<int64_t> DroppedRank(const AdapterDropout& dropout, std::initializer_list<at::Tensor> wide,
                                            int64_t ranks, const at::Tensor& low) {
    const auto adapters = static_cast<int64_t>(dropout.adapters());
    const at::Tensor& x = *wide.begin();
    const int64_t rank = ranks / adapters;
    if (x.scalar_type() != at::kBFloat16 || x.size(1) % 64 != 0 || x.size(0) > INT32_MAX) return std::nullopt;
    if (dropout.adapters() > kMostDropped || Access(at::kBFloat16, x.size(1), wide) != 8) return std::nullopt;
    if (WidestAccess({2, 1}, {rank}, {LayoutOf(low)}) != 2) return std::nullopt;
    return rank;
  }

  // What `entry` says of each item, on the device.
  template <typename Entry, typename Item, typename F>
  at::Tensor Table(const std::vector<Item>& items, F&& entry) const {
    const at::Tensor table = at::empty({static_cast<int64_t>(items.size() * sizeof(Entry))},
                                       at::TensorOptions(at::kByte).pinned_memory(true));
    auto* const entries = static_cast<Entry*>(table.data_ptr());
    for (size_t i = 0; i < items.size(); ++i) entries[i] = entry(items[i]);
    return table.to(device_, /*non_blocking=*/true);
  }

  // Threads of a block of the norms, and of all blocks of a multiprocessor in the one that trains the weight: measured
  // best on an H100 at widths of 2048 and 4096.
  static constexpr int64_t kRowThreads = 256, kWeightThreads = 1024;

  const c10::Device device_;
  const CudaDeviceKind kind_;
  const std::unique_ptr<CudaModule> module_;
  const std::unique_ptr<Operations> aten_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Operations>> MakeCudaOperations(c10::Device device, CubinCache& cache) {
  ASSIGN_OR_RETURN(CudaDeviceKind kind, DescribeCudaDevice(device));
  ASSIGN_OR_RETURN(const std::unique_ptr<Compiler> compiler, LoadNvrtc());
  ASSIGN_OR_RETURN(const std::string cubin, cache.Get(*compiler, CudaSource(), kind.architecture));
  // The first allocation makes LibTorch's context.
  at::empty({1}, at::TensorOptions().device(device));
  ASSIGN_OR_RETURN(std::unique_ptr<CudaModule> module, CudaModule::Load(device, cubin));
  return std::make_unique<CudaOperations>(device, std::move(kind), std::move(module));
}

Chosen ChooseOperations(c10::Device device, CubinCache& cache) {
  if (!device.is_cuda()) return {MakeAtenOperations(), ""};
  absl::StatusOr<std::unique_ptr<Operations>> ours = MakeCudaOperations(device, cache);
  if (ours.ok()) return {*std::move(ours), ""};
  return {MakeAtenOperations(), absl::StrCat("element-wise work runs by LibTorch's operations, several times slower "
                                             "than our CUDA kernels: ",
                                             ours.status().message())};
}

}  // namespace studio::kernels
