#include "worker/trainer/loop/gradients.h"

#include <ATen/core/grad_mode.h>

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status/macros.h"
#include "worker/trainer/kernels/cubin_cache.h"
#include "worker/trainer/kernels/cuda_operations.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/planned/applies.h"
#include "worker/trainer/planned/attention_table.h"
#include "worker/trainer/probe/cuda_driver.h"

namespace studio {

absl::StatusOr<StepChoice> ChooseStep(StepAsked asked, const ModelOptions& options) {
  StepChoice choice;
  choice.ahead = asked.ahead == Ahead::kOn || (asked.ahead == Ahead::kAuto && options.device.is_cuda());
  const std::string why_not = planned::WhyNot(options);
  if (asked.kind == StepKind::kPlanned && !why_not.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--step planned: there is no planned step with ", why_not,
                                                   "; use --step auto, which falls back to autograd"));
  }
  if (asked.kind == StepKind::kAutograd) {
    choice.why = "asked for";
  } else if (!why_not.empty()) {
    choice.why = why_not;
  } else if (asked.kind == StepKind::kAuto && !options.device.is_cuda()) {
    // On CPUs the autograd path's own kernels are the faster ones (docs/performance.md).
    choice.why = "faster on this device";
  } else {
    choice.planned = true;
  }
  return choice;
}

Operations MakeOperations(const StepChoice& choice, const ModelOptions& options, Env& env) {
  if (!choice.planned && (options.lora || options.trained_dtype == at::kFloat)) return {};
  kernels::CubinCache cache(env, kernels::DefaultKernelFolder());
  kernels::Chosen chosen = kernels::ChooseOperations(options.device, cache);
  return {std::move(chosen.operations), std::move(chosen.note)};
}

std::shared_ptr<planned::MeasuredAttention> MakeMeasuredAttention(const StepChoice& choice, const ModelOptions& options,
                                                                  Env& env, planned::AttentionChooser::Log log) {
  if (!choice.planned || !options.device.is_cuda()) return nullptr;
  const std::optional<CudaDeviceInfo> card = ReadCudaDevice(options.device.has_index() ? options.device.index() : 0);
  // Figures of a card without a name would be taken for another's.
  if (!card) return nullptr;
  return std::make_shared<planned::MeasuredAttention>(
      planned::MeasuredAttention::Card{card->name, card->compute_capability},
      planned::AttentionChooser(planned::AttentionTable(env, kernels::DefaultKernelFolder()), std::move(log)));
}

absl::StatusOr<Gradients> Gradients::Create(CausalLm& model, const StepChoice& choice, int64_t max_tokens,
                                            const Operations& operations,
                                            std::shared_ptr<planned::MeasuredAttention> attention) {
  Gradients gradients(model);
  if (!choice.planned) {
    gradients.description_ = absl::StrCat("autograd (", choice.why, ")");
    return gradients;
  }
  ASSIGN_OR_RETURN(gradients.planned_, CatchTorch([&] {
                     return std::make_unique<planned::PlannedStep>(
                         model, max_tokens, operations.operations,
                         planned::PlannedStep::Options{.record = choice.ahead, .measured_attention = attention});
                   }));
  gradients.description_ = absl::StrFormat("planned, %.2f GiB laid out, element-wise work by %s",
                                           static_cast<double>(gradients.planned_->layout().total_bytes) / (1 << 30),
                                           gradients.planned_->operations().name());
  if (!operations.note.empty()) absl::StrAppend(&gradients.description_, " (", operations.note, ")");
  return gradients;
}

void Gradients::Refresh() {
  if (planned_ != nullptr) planned_->Refresh();
}

at::Tensor Gradients::Accumulate(const Batch& batch, double scale) {
  if (planned_ != nullptr) return planned_->AccumulateGradients(batch, scale);
  at::AutoGradMode grad(true);
  const LossTensor loss = model_->LossSum(batch);
  if (loss.valid_tokens > 0) loss.loss_sum.mul(scale).backward();
  return loss.loss_sum.detach();
}

}  // namespace studio
