#include "controller/loop/inputs.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/artifact/file_tree.h"
#include "common/artifact/uri.h"
#include "common/job/job_rules.h"
#include "common/status/macros.h"

namespace studio::controller {

absl::Status CheckInputs(const v1::Job& job, const std::vector<v1::Input>& inputs) {
  const std::vector<NamedFile> files = NamedFiles(job);
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
    if (const absl::Status whole = CheckArtifact(input.artifact()); !whole.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(input.field(), ": ", whole.message()));
    }
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
