// Which optimizer a job gets on this rank's device.
//
//   ASSIGN_OR_RETURN(OptimizerChoice choice, ChooseOptimizer(asked, at::kFloat, device, task.resume_dir(), env));
//   ASSIGN_OR_RETURN(std::unique_ptr<Optimizer> optimizer, choice.Make(*model, job.training(), ops));   // once
//
// Statuses, no exceptions.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "proto/studio/v1/job.pb.h"
#include "worker/trainer/kernels/operations.h"
#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/optim/blockwise_adam.h"
#include "worker/trainer/optim/optimizer.h"

namespace studio {

class OptimizerChoice {
 public:
  // `adam`: null for fp32 states.
  explicit OptimizerChoice(std::unique_ptr<BlockwiseAdam> adam) : adam_(std::move(adam)) {}

  v1::Training::Optimizer kind() const { return adam_ ? v1::Training::ADAMW8BIT : v1::Training::ADAMW; }
  // Over the model's trained parameters. Gives the library away: once. `operations`: needed where parameters are bf16.
  absl::StatusOr<std::unique_ptr<Optimizer>> Make(CausalLm& model, const v1::Training& training,
                                                  std::shared_ptr<const kernels::Operations> operations);

 private:
  std::unique_ptr<BlockwiseAdam> adam_;
};

// OPTIMIZER_AUTO: what the checkpoint in `resume_dir` was trained with; without one (empty) ADAMW8BIT where
// bitsandbytes loads and weights are fp32, else ADAMW. FailedPrecondition, with platform, cause and alternative, where
// ADAMW8BIT is wanted and not here; InvalidArgument where weights are trained in another type than fp32.
absl::StatusOr<OptimizerChoice> ChooseOptimizer(v1::Training::Optimizer asked, at::ScalarType weights,
                                                at::Device device, const std::string& resume_dir, Env& env);

}  // namespace studio
