#include "worker/agent/local_job.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <functional>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/artifact/file_tree.h"
#include "common/artifact/uri.h"
#include "common/job/job_rules.h"
#include "common/status/macros.h"
#include "proto/studio/v1/rules.pb.h"

namespace studio::worker {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Calls back for every field of the job that may name a file or folder, with its dotted name.
absl::Status ForEachArtifactField(
    Message& message, const std::string& prefix,
    const std::function<absl::Status(const std::string& name, const std::string& value,
                                     const std::function<void(std::string)>& set)>& visit) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = message.GetDescriptor()->field(i);
    const std::string name = absl::StrCat(prefix, field->name());
    if (field->is_repeated()) continue;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (!reflection.HasField(message, field)) continue;
      Message& child = *reflection.MutableMessage(&message, field);
      RETURN_IF_ERROR(ForEachArtifactField(child, absl::StrCat(name, "."), visit));
    } else if (field->options().GetExtension(v1::rule).artifact()) {
      RETURN_IF_ERROR(visit(name, reflection.GetString(message, field),
                            [&](std::string value) { reflection.SetString(&message, field, std::move(value)); }));
    }
  }
  return absl::OkStatus();
}

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
  RETURN_IF_ERROR(ForEachArtifactField(
      local.job, "",
      [&](const std::string& name, const std::string& value, const std::function<void(std::string)>& set) {
        if (value.empty()) return absl::OkStatus();
        const auto input = given.find(name);
        const std::string uri = input != given.end() && !input->second.uri().empty() ? input->second.uri() : value;
        ASSIGN_OR_RETURN(const Uri parsed, ParseUri(uri));
        if (parsed.kind == Uri::Kind::kFile || input == given.end()) {
          if (parsed.kind != Uri::Kind::kFile && parsed.kind != Uri::Kind::kPath) {
            return absl::InvalidArgumentError(
                absl::StrCat(name, ": \"", value, "\" came without its files: submit the job with studioctl"));
          }
          ASSIGN_OR_RETURN(std::string path, UnderSharedRoot(name, value, parsed.path, shared_roots));
          set(std::move(path));
          return absl::OkStatus();
        }
        const v1::Artifact& artifact = input->second;
        RETURN_IF_ERROR(CheckArtifact(artifact));
        const std::string folder = absl::StrCat(inputs_dir, "/", ArtifactDigest(artifact));
        local.fetches.push_back({artifact, folder});
        set(artifact.single_file() ? absl::StrCat(folder, "/", artifact.files(0).path()) : folder);
        return absl::OkStatus();
      }));
  return local;
}

}  // namespace studio::worker
