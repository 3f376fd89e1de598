#include "controller/loop/inputs.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/artifact/uri.h"
#include "common/status/macros.h"
#include "proto/studio/v1/rules.pb.h"

namespace studio::controller {
namespace {

using google::protobuf::FieldDescriptor;

void Collect(const google::protobuf::Message& message, const std::string& prefix, std::vector<NamedFile>& files) {
  const google::protobuf::Descriptor& type = *message.GetDescriptor();
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    if (field->is_repeated()) continue;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (reflection.HasField(message, field)) {
        Collect(reflection.GetMessage(message, field), absl::StrCat(prefix, field->name(), "."), files);
      }
    } else if (field->options().GetExtension(v1::rule).artifact()) {
      const std::string value = reflection.GetString(message, field);
      if (!value.empty()) files.push_back({absl::StrCat(prefix, field->name()), value});
    }
  }
}

}  // namespace

std::vector<NamedFile> FilesOf(const v1::Job& job) {
  std::vector<NamedFile> files;
  Collect(job, "", files);
  return files;
}

absl::Status CheckFileRef(const v1::FileRef& file, const std::string& what) {
  const std::string& hash = file.sha256();
  const bool hex =
      std::all_of(hash.begin(), hash.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (hash.size() != 64 || !hex) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": \"", hash, "\" is no SHA-256 in 64 lower-case hex digits"));
  }
  if (file.size_bytes() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", file.path(), " has a size of ", file.size_bytes()));
  }
  if (const absl::Status path = CheckRelativePath(file.path()); !path.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": ", path.message()));
  }
  return absl::OkStatus();
}

absl::Status CheckArtifact(const v1::Artifact& artifact, const std::string& what) {
  std::set<std::string> paths;
  for (const v1::FileRef& file : artifact.files()) {
    RETURN_IF_ERROR(CheckFileRef(file, what));
    if (!paths.insert(file.path()).second) {
      return absl::InvalidArgumentError(absl::StrCat(what, ": ", file.path(), " is there twice"));
    }
  }
  if (artifact.single_file() && artifact.files_size() != 1) {
    return absl::InvalidArgumentError(absl::StrCat(what, ": a single file with ", artifact.files_size(), " entries"));
  }
  return absl::OkStatus();
}

absl::Status CheckInputs(const v1::Job& job, const std::vector<v1::Input>& inputs) {
  const std::vector<NamedFile> files = FilesOf(job);
  std::set<std::string> given;
  for (const v1::Input& input : inputs) {
    const auto named =
        std::find_if(files.begin(), files.end(), [&](const auto& f) { return f.field == input.field(); });
    if (named == files.end()) {
      return absl::InvalidArgumentError(absl::StrCat("input for \"", input.field(), "\": the job names no file there"));
    }
    if (!given.insert(input.field()).second) {
      return absl::InvalidArgumentError(absl::StrCat("two inputs for ", input.field()));
    }
    ASSIGN_OR_RETURN(const Uri uri, ParseUri(input.artifact().uri()));
    if (uri.kind == Uri::Kind::kStudio && input.artifact().files().empty()) {
      return absl::InvalidArgumentError(absl::StrCat(input.field(), ": its input has no files"));
    }
    if (uri.kind != Uri::Kind::kStudio && uri.kind != Uri::Kind::kFile) {
      return absl::InvalidArgumentError(absl::StrCat(input.field(), ": an input cannot be at \"",
                                                     input.artifact().uri(), "\", only at studio: or file:"));
    }
    RETURN_IF_ERROR(CheckArtifact(input.artifact(), input.field()));
  }
  for (const NamedFile& file : files) {
    if (given.count(file.field) > 0) continue;
    const absl::StatusOr<Uri> uri = ParseUri(file.value);
    if (!uri.ok()) return absl::InvalidArgumentError(absl::StrCat(file.field, ": ", uri.status().message()));
    switch (uri->kind) {
      case Uri::Kind::kFile:
        break;
      case Uri::Kind::kHuggingFace:
        return absl::UnimplementedError(
            absl::StrCat(file.field, ": ", file.value, ": download it and name its folder; hf: comes later"));
      default:
        return absl::InvalidArgumentError(absl::StrCat(file.field, ": \"", file.value,
                                                       "\" is a path on the client's machine and came without its "
                                                       "contents; submit with studioctl, which uploads it"));
    }
  }
  return absl::OkStatus();
}

}  // namespace studio::controller
