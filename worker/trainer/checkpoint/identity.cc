#include "worker/trainer/checkpoint/identity.h"

#include <google/protobuf/util/message_differencer.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status/macros.h"
#include "worker/trainer/checkpoint/file_ref.h"

namespace studio {

v1::Job SettingsThatDecide(v1::Job job) {
  job.clear_name();
  job.clear_labels();
  job.clear_resources();
  job.clear_export_();
  job.clear_retry();
  job.clear_prediction();
  job.mutable_environment()->clear_number_of_workers();

  // What the data is, data_key says.
  job.clear_dataset();
  job.clear_tokenizer();

  v1::Architecture& architecture = *job.mutable_architecture();
  architecture.clear_llm_backbone();
  architecture.clear_pretrained_adapter();
  architecture.clear_gradient_checkpointing();

  v1::Training& training = *job.mutable_training();
  training.clear_batch_size();
  training.clear_grad_accumulation();
  training.clear_attention_implementation();
  training.clear_eval_steps();
  training.clear_evaluate_before_training();
  training.clear_save_steps();
  training.clear_save_seconds();
  training.clear_save_total_limit();
  training.clear_logging_steps();
  return job;
}

absl::StatusOr<std::string> ModelKey(Env& env, const std::string& model_dir) {
  ASSIGN_OR_RETURN(std::string text, env.ReadFile(model_dir + "/config.json"));
  ASSIGN_OR_RETURN(const std::vector<std::string> names, env.ListFolder(model_dir));
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, ".safetensors")) continue;
    ASSIGN_OR_RETURN(const int64_t size, env.FileSize(model_dir + "/" + name));
    absl::StrAppend(&text, "\n", name, " ", size);
  }
  return Sha256OfBytes(text);
}

absl::Status CheckSameRun(const v1::TrainingState& checkpoint, const v1::TrainingState& run) {
  std::string differences;
  google::protobuf::util::MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&differences);
  differencer.Compare(checkpoint.job(), run.job());
  if (checkpoint.total_steps() != run.total_steps()) {
    absl::StrAppend(&differences, "steps in all: ", checkpoint.total_steps(), " -> ", run.total_steps(), "\n");
  }
  if (checkpoint.plan().global() != run.plan().global()) {
    absl::StrAppend(&differences, "global batch: ", checkpoint.plan().global(), " -> ", run.plan().global(), " rows\n");
  }
  if (checkpoint.data_key() != run.data_key()) {
    absl::StrAppend(&differences, "prepared data: ", checkpoint.data_key(), " -> ", run.data_key(), "\n");
  }
  if (checkpoint.model_key() != run.model_key()) {
    absl::StrAppend(&differences, "backbone: ", checkpoint.model_key(), " -> ", run.model_key(), "\n");
  }
  if (differences.empty()) return absl::OkStatus();
  differences.pop_back();
  return absl::FailedPreconditionError(absl::StrCat(
      "it belongs to another run (checkpoint -> this job): ", absl::StrReplaceAll(differences, {{"\n", "; "}}),
      "; start without it or restore the settings"));
}

}  // namespace studio
