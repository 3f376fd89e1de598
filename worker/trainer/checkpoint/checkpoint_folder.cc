#include "worker/trainer/checkpoint/checkpoint_folder.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status/macros.h"
#include "worker/trainer/checkpoint/checkpoint.h"

namespace studio {
namespace {

bool IsCheckpoint(Env& env, const std::string& folder) { return env.Exists(absl::StrCat(folder, "/", kManifestFile)); }

// Steps of all step-N, finished or not.
absl::StatusOr<std::vector<int64_t>> ListAll(Env& env, const std::string& folder) {
  std::vector<int64_t> steps;
  if (!env.Exists(folder)) return steps;
  ASSIGN_OR_RETURN(const std::vector<std::string> names, env.ListFolder(folder));
  for (const std::string& name : names) {
    absl::string_view number = name;
    int64_t step = 0;
    if (absl::ConsumePrefix(&number, "step-") && absl::SimpleAtoi(number, &step)) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

// The manifest goes first, so that a half-deleted folder is no checkpoint.
absl::Status Remove(Env& env, const std::string& folder) {
  RETURN_IF_ERROR(env.RemoveAll(absl::StrCat(folder, "/", kManifestFile)));
  return env.RemoveAll(folder);
}

}  // namespace

std::string CheckpointPath(const std::string& folder, int64_t step) { return absl::StrCat(folder, "/step-", step); }

absl::StatusOr<std::vector<int64_t>> ListCheckpoints(Env& env, const std::string& folder) {
  ASSIGN_OR_RETURN(std::vector<int64_t> steps, ListAll(env, folder));
  std::erase_if(steps, [&](int64_t step) { return !IsCheckpoint(env, CheckpointPath(folder, step)); });
  return steps;
}

absl::StatusOr<std::string> FindCheckpoint(Env& env, const std::string& folder) {
  if (IsCheckpoint(env, folder)) return folder;
  for (const std::string& place : {folder, folder + "/checkpoints"}) {
    ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListCheckpoints(env, place));
    if (!steps.empty()) return CheckpointPath(place, steps.back());
  }
  return absl::NotFoundError(
      absl::StrCat(folder, ": no checkpoint is there (a folder with ", kManifestFile, ", or folders step-N with one)"));
}

absl::Status RemoveUnfinished(Env& env, const std::string& folder) {
  ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListAll(env, folder));
  for (const int64_t step : steps) {
    const std::string path = CheckpointPath(folder, step);
    if (!IsCheckpoint(env, path)) RETURN_IF_ERROR(env.RemoveAll(path));
  }
  return absl::OkStatus();
}

absl::Status KeepNewest(Env& env, const std::string& folder, int64_t recorded_step, int limit) {
  ASSIGN_OR_RETURN(std::vector<int64_t> steps, ListCheckpoints(env, folder));
  std::erase_if(steps, [&](int64_t step) { return step > recorded_step; });
  for (int64_t i = 0; i + limit < static_cast<int64_t>(steps.size()); ++i) {
    RETURN_IF_ERROR(Remove(env, CheckpointPath(folder, steps[i])));
  }
  return absl::OkStatus();
}

}  // namespace studio
