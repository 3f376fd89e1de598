// One rank's whole life: prepare data, load, train, evaluate, export. Of several ranks, rank 0 alone answers sample
// prompts and writes files.
//
//   ASSIGN_OR_RETURN(RunSummary summary, RunTask(task, link, env, {}));
//
// States, progress, evaluations, samples, checkpoints and the end go to the link as they happen; a failure is returned,
// and the caller's to send. Leaves <out_dir>/result, <out_dir>/checkpoints and <out_dir>/summary.json.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "proto/studio/v1/trainer.pb.h"
#include "worker/trainer/agent_link/rank_link.h"
#include "worker/trainer/loop/gradients.h"
#include "worker/trainer/loop/setup.h"
#include "worker/trainer/loop/summary.h"

namespace studio {

struct RunOptions {
  // Write every batch that is trained to this file. Empty: no.
  std::string dump_batches;
  StepAsked step = {};
  // Write the timeline of the run's eleventh step (of its last, where there are fewer) to this file. Empty: no.
  std::string profile;
  RankPlace place = {};
};

absl::StatusOr<RunSummary> RunTask(const v1::TrainerTask& task, RankLink& link, Env& env, const RunOptions& options);

}  // namespace studio
