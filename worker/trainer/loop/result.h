// What a finished run leaves in <out_dir>/result: a PEFT adapter or a Hugging Face model folder.
#pragma once

#include "absl/status/statusor.h"
#include "common/env/env.h"
#include "proto/studio/v1/trainer.pb.h"
#include "worker/trainer/model/causal_lm.h"

namespace studio {

// InvalidArgument where the job asks for a form that its training cannot give: known before any work is done.
absl::Status CheckResultForm(const v1::Job& job);

// Replaces what lies there, by one rename. Returns its files.
absl::StatusOr<v1::Artifact> LeaveResult(const v1::TrainerTask& task, const CausalLm& model, Env& env);

}  // namespace studio
