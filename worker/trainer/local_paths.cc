#include "worker/trainer/local_paths.h"

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/status/macros.h"
#include "proto/studio/v1/rules.pb.h"

namespace studio {
namespace {

absl::StatusOr<std::string> Resolve(const std::string& written, const std::string& folder, const std::string& field) {
  absl::string_view path = written;
  if (absl::ConsumePrefix(&path, "file://") || absl::ConsumePrefix(&path, "file:")) {
    if (!absl::StartsWith(path, "/")) {
      return absl::InvalidArgumentError(absl::StrCat(field, ": ", written, ": a file: URI needs an absolute path"));
    }
  } else if (const size_t colon = path.find(':'); colon != path.npos && path.find('/') > colon) {
    return absl::InvalidArgumentError(absl::StrCat(field, ": ", written,
                                                   ": a trainer alone reads local files; submit "
                                                   "the job to a controller, or name a path"));
  }
  const std::filesystem::path whole = (std::filesystem::path(folder) / std::string(path)).lexically_normal();
  std::error_code error;
  if (!std::filesystem::exists(whole, error)) {
    return absl::NotFoundError(absl::StrCat(field, ": ", whole.string(), ": no such file or folder"));
  }
  return whole.string();
}

absl::Status ResolveMessage(google::protobuf::Message& message, const std::string& folder, const std::string& prefix) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const google::protobuf::FieldDescriptor* field : fields) {
    const std::string name = absl::StrCat(prefix, field->name());
    if (field->is_repeated()) continue;
    if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      RETURN_IF_ERROR(ResolveMessage(*reflection.MutableMessage(&message, field), folder, name + "."));
    } else if (field->options().GetExtension(v1::rule).artifact()) {
      const std::string written = reflection.GetString(message, field);
      if (written.empty()) continue;
      ASSIGN_OR_RETURN(std::string path, Resolve(written, folder, name));
      reflection.SetString(&message, field, std::move(path));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ResolveLocalPaths(v1::Job& job, const std::string& folder) {
  return ResolveMessage(job, std::filesystem::absolute(folder).string(), "");
}

}  // namespace studio
