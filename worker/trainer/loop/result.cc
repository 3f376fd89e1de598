#include "worker/trainer/loop/result.h"

#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status/macros.h"
#include "worker/trainer/checkpoint/file_ref.h"
#include "worker/trainer/export/export.h"

namespace studio {
namespace {

absl::Status Export(const v1::Job& job, const CausalLm& model, const std::string& folder) {
  if (job.export_().format() == v1::Export::MODEL || !job.training().lora()) return ExportModel(model, folder);
  return ExportAdapter(model, folder, job.architecture().llm_backbone());
}

}  // namespace

absl::Status CheckResultForm(const v1::Job& job) {
  if (job.export_().format() == v1::Export::ADAPTER && !job.training().lora()) {
    return absl::InvalidArgumentError("export.format: ADAPTER needs training.lora; use MODEL, or leave it out");
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Artifact> LeaveResult(const v1::TrainerTask& task, const CausalLm& model, Env& env) {
  const std::string folder = absl::StrCat(task.out_dir(), "/result"), unfinished = folder + ".unfinished";
  RETURN_IF_ERROR(env.RemoveAll(unfinished));
  RETURN_IF_ERROR(Export(task.job(), model, unfinished));
  RETURN_IF_ERROR(env.RemoveAll(folder));
  if (std::rename(unfinished.c_str(), folder.c_str()) != 0) {
    return absl::UnavailableError(absl::StrCat(folder, ": cannot be put in its place"));
  }
  ASSIGN_OR_RETURN(v1::Artifact artifact, HashFolder(folder));
  return artifact;
}

}  // namespace studio
