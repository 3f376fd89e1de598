#include "worker/trainer/local_paths.h"

#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/job/job_rules.h"
#include "common/status/macros.h"

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

}  // namespace

absl::Status ResolveLocalPaths(v1::Job& job, const std::string& folder) {
  const std::string whole = std::filesystem::absolute(folder).string();
  for (const auto& [field, written] : NamedFiles(job)) {
    ASSIGN_OR_RETURN(std::string path, Resolve(written, whole, field));
    SetNamedFile(job, field, std::move(path));
  }
  return absl::OkStatus();
}

}  // namespace studio
