#include "worker/agent/local_job.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/artifact/file_tree.h"
#include "common/artifact/uri.h"
#include "common/job/job_rules.h"
#include "common/status/macros.h"

namespace studio::worker {
namespace {

absl::Status NotReadable(const std::string& field, const std::string& value, const std::vector<std::string>& roots) {
  return absl::InvalidArgumentError(absl::StrCat(
      field, ": \"", value, "\" was not uploaded and this worker reads files only under its shared roots (",
      roots.empty() ? "it has none" : absl::StrJoin(roots, ", "),
      "): submit the job with studioctl, which uploads local files, or start the worker with --shared-root"));
}

// Whatever is wrong with a path is the job's fault, and trying again does not help.
absl::StatusOr<std::string> UnderSharedRoot(const std::string& field, const std::string& value, const std::string& path,
                                            const std::vector<std::string>& roots) {
  absl::StatusOr<std::string> resolved = ResolveUnderRoots(path, roots, field);
  if (resolved.ok()) return resolved;
  if (absl::IsNotFound(resolved.status())) return absl::InvalidArgumentError(resolved.status().message());
  return NotReadable(field, value, roots);
}

}  // namespace

absl::StatusOr<LocalJob> PlanLocalJob(const v1::Job& job, const std::vector<v1::Input>& inputs,
                                      const std::string& inputs_dir, const std::vector<std::string>& shared_roots) {
  std::map<std::string, v1::Artifact> given;
  for (const v1::Input& input : inputs) given[input.field()] = input.artifact();

  LocalJob local{WithDefaults(job), {}};
  for (const auto& [name, value] : NamedFiles(local.job)) {
    const auto input = given.find(name);
    const std::string uri = input != given.end() && !input->second.uri().empty() ? input->second.uri() : value;
    ASSIGN_OR_RETURN(const Uri parsed, ParseUri(uri));
    if (parsed.kind == Uri::Kind::kFile || input == given.end()) {
      if (parsed.kind != Uri::Kind::kFile && parsed.kind != Uri::Kind::kPath) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, ": \"", value, "\" came without its files: submit the job with studioctl"));
      }
      ASSIGN_OR_RETURN(std::string path, UnderSharedRoot(name, value, parsed.path, shared_roots));
      SetNamedFile(local.job, name, std::move(path));
      continue;
    }
    const v1::Artifact& artifact = input->second;
    RETURN_IF_ERROR(CheckArtifact(artifact));
    const std::string folder = absl::StrCat(inputs_dir, "/", ArtifactDigest(artifact));
    local.fetches.push_back({artifact, folder});
    SetNamedFile(local.job, name,
                 artifact.single_file() ? absl::StrCat(folder, "/", artifact.files(0).path()) : folder);
  }
  return local;
}

}  // namespace studio::worker
