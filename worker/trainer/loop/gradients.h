// Which schedule makes a step's gradients: the planned step (planned/) where it applies and is the faster one, else
// LibTorch's autograd.
//
//   ASSIGN_OR_RETURN(const StepChoice choice, ChooseStep({StepKind::kAuto}, options));
//   options.bordered = choice.planned;                       // before the model is loaded
//   Operations ops = MakeOperations(choice, options, env);    // shared with the optimizer
//   auto attention = MakeMeasuredAttention(choice, options, env, log);
//   ASSIGN_OR_RETURN(Gradients gradients, Gradients::Create(*model, choice, /*max_tokens=*/16384, ops, attention));
//   losses.push_back(gradients.Accumulate(batch, 1.0 / valid_tokens));   // inside CatchTorch
#pragma once

#include <ATen/core/TensorBody.h>

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/planned/attention_chooser.h"
#include "worker/trainer/planned/measured_attention.h"
#include "worker/trainer/planned/planned_step.h"

namespace studio {

enum class StepKind { kAuto, kPlanned, kAutograd };
// Whether the host works ahead of the device: micro batches whose shape comes again are recorded (planned/replays.h),
// and the loss of a step is read when the next one is queued. kAuto: on CUDA.
enum class Ahead { kAuto, kOn, kOff };

struct StepAsked {
  StepKind kind = StepKind::kAuto;
  Ahead ahead = Ahead::kAuto;
};

struct StepChoice {
  bool planned = false;
  bool ahead = false;
  // Why not, in words for the log; empty where it is planned.
  std::string why;
};

// kAuto: planned on CUDA where it applies. InvalidArgument where kPlanned is asked for and does not apply.
absl::StatusOr<StepChoice> ChooseStep(StepAsked asked, const ModelOptions& options);

// What the step and the optimizer do element by element, for who needs it: the planned step, and parameters in bf16.
struct Operations {
  std::shared_ptr<const kernels::Operations> operations;  // else null
  // Why a CUDA device goes without our kernels; empty where it does not.
  std::string note;
};
// `env`: where compiled kernels are kept.
Operations MakeOperations(const StepChoice& choice, const ModelOptions& options, Env& env);

// The planned step's attention on a card, chosen by figures that are kept beside the compiled kernels; null where there
// is nothing to choose. `env` outlives it. `log`: one line for each shape, and what goes wrong.
std::shared_ptr<planned::MeasuredAttention> MakeMeasuredAttention(const StepChoice& choice, const ModelOptions& options,
                                                                  Env& env, planned::AttentionChooser::Log log);

class Gradients {
 public:
  // `max_tokens`: of the largest micro batch. `attention` may be null: the planned step's fixed rule. The planned
  // step's memory is allocated here; ResourceExhausted names it.
  static absl::StatusOr<Gradients> Create(CausalLm& model, const StepChoice& choice, int64_t max_tokens,
                                          const Operations& operations,
                                          std::shared_ptr<planned::MeasuredAttention> attention);

  // The sum of token losses, an fp64 scalar on the device that is not waited for; its gradient times `scale` is added
  // to every parameter's grad(). Throws what LibTorch throws.
  at::Tensor Accumulate(const Batch& batch, double scale);

  // After an optimizer's step, as soon as it is queued: what the next step would otherwise wait for.
  void Refresh();

  // For people: "planned, 13.8 GiB laid out, element-wise work by CUDA sm_90".
  const std::string& description() const { return description_; }

 private:
  explicit Gradients(CausalLm& model) : model_(&model) {}

  CausalLm* model_;
  std::unique_ptr<planned::PlannedStep> planned_;
  std::string description_;
};

}  // namespace studio
