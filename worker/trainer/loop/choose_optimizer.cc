#include "worker/trainer/loop/choose_optimizer.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status/macros.h"
#include "worker/trainer/checkpoint/checkpoint.h"
#include "worker/trainer/model/torch_status.h"
#include "worker/trainer/optim/adamw8bit.h"
#include "worker/trainer/optim/make_adamw.h"

namespace studio {

absl::StatusOr<std::unique_ptr<Optimizer>> OptimizerChoice::Make(
    CausalLm& model, const v1::Training& training, std::shared_ptr<const kernels::Operations> operations) {
  std::vector<Optimizer::Parameter> parameters;
  for (const NamedParameter& p : model.TrainableParameters()) parameters.push_back({p.name, p.tensor, p.decay});
  const Optimizer::Options options = {training.adam_beta1(), training.adam_beta2(), training.adam_epsilon(),
                                      training.weight_decay(), model.options().seed};
  return CatchTorch([&]() -> std::unique_ptr<Optimizer> {
    if (adam_ == nullptr) return MakeAdamW(parameters, options, std::move(operations));
    return std::make_unique<AdamW8bit>(parameters, options, std::move(adam_));
  });
}

absl::StatusOr<OptimizerChoice> ChooseOptimizer(v1::Training::Optimizer asked, at::ScalarType weights,
                                                at::Device device, const std::string& resume_dir, Env& env) {
  const bool automatic = asked == v1::Training::OPTIMIZER_AUTO;
  const bool goes_on = automatic && !resume_dir.empty();
  if (goes_on) {
    ASSIGN_OR_RETURN(const v1::TrainingState state, ReadState(env, resume_dir));
    asked = state.job().training().optimizer();
  }
  if (automatic && !goes_on && weights != at::kFloat) return OptimizerChoice(nullptr);
  if (asked == v1::Training::ADAMW) return OptimizerChoice(nullptr);
  if (weights != at::kFloat) {
    return absl::InvalidArgumentError(
        "training.optimizer: ADAMW8BIT steps fp32 weights, and architecture.backbone_dtype BFLOAT16 keeps bf16 ones "
        "alone "
        "where every weight is trained; use ADAMW, or leave backbone_dtype out");
  }
  absl::StatusOr<std::unique_ptr<BlockwiseAdam>> adam = absl::InternalError("not tried");
  RETURN_IF_ERROR(CatchTorch([&] { adam = BlockwiseAdam::Load(device); }));
  if (adam.ok()) return OptimizerChoice(*std::move(adam));
  if (automatic && !goes_on) return OptimizerChoice(nullptr);
  return absl::FailedPreconditionError(absl::StrCat(
      "training.optimizer: ADAMW8BIT on ", c10::DeviceTypeName(device.type()), ": ", adam.status().message(),
      goes_on ? absl::StrCat("; the checkpoint ", resume_dir, " was trained with it: go on where it is, or start anew")
              : "; or use ADAMW"));
}

}  // namespace studio
