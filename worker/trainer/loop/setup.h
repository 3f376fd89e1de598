// From a task to what training needs: device, threads, model, optimizer. The STARTING part of a run.
//
//   ASSIGN_OR_RETURN(RunSetup setup, SetUp(task, prepared.report, {StepKind::kAuto}, place, env));
//
// Statuses, no exceptions.
#pragma once

#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "proto/studio/v1/trainer.pb.h"
#include "worker/trainer/data_feed/feed_plan.h"
#include "worker/trainer/loop/gradients.h"
#include "worker/trainer/model/causal_lm.h"
#include "worker/trainer/optim/optimizer.h"
#include "worker/trainer/optim/schedule.h"
#include "worker/trainer/parallel/ranks.h"

namespace studio {

// What the agent says of a rank's place by the environment, beside its task.
struct RankPlace {
  // Ranks of the attempt on this machine: they share its cores.
  int local_world_size = 1;
  // Rank 0's: the socket of the store, listening already.
  std::optional<int> store_fd;
};

struct RunSetup {
  std::unique_ptr<Ranks> ranks;
  FeedPlan feed;
  v1::BatchPlan plan;
  Schedule schedule;
  std::unique_ptr<CausalLm> model;
  // Its parameters are the model's: it goes first.
  std::unique_ptr<Optimizer> optimizer;
  // Which it is: never AUTO.
  v1::Training::Optimizer optimizer_kind = v1::Training::ADAMW;
  StepChoice step;
  Operations operations;
  // Made once the rows are known: see Gradients::Create.
  std::optional<Gradients> gradients;
  int threads = 0;
};

// The task's plan where it has one, else what the job says.
v1::BatchPlan PlanOf(const v1::TrainerTask& task);

// `env`: where a checkpoint to go on from is read, and compiled kernels are kept.
absl::StatusOr<RunSetup> SetUp(const v1::TrainerTask& task, const v1::DataReport& data, StepAsked step,
                               const RankPlace& place, Env& env);

}  // namespace studio
