// What a job may write where it names a file or folder.
//
//   rows.jsonl, /data/rows.jsonl   a path on the client's machine: studioctl uploads it
//   file:/shared/model             a path that workers declare shared; also file:///shared/model
//   hf://org/name@revision         a Hugging Face repository
//   job:j3/result                  another job's result
//   studio:                        the controller's content store
//
// Pure functions; any thread.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace studio {

struct Uri {
  enum class Kind { kPath, kFile, kHuggingFace, kJob, kStudio };
  Kind kind = Kind::kPath;
  std::string path;      // kPath as written; kFile absolute; kHuggingFace the repository; kJob what follows "jN/"
  std::string revision;  // kHuggingFace: "main" where none is written
  std::string job_id;    // kJob
};

// InvalidArgument for an unknown scheme or a malformed one.
absl::StatusOr<Uri> ParseUri(absl::string_view text);

// A path inside a folder as FileRef has it: relative, '/'-separated, no empty, "." or ".." part, no control characters
// or backslashes, UTF-8, at most 255 bytes a part and 1,024 in all.
absl::Status CheckRelativePath(absl::string_view path);

// The path with links resolved, if that lies in one of the roots (themselves resolved). PermissionDenied names the
// roots otherwise; NotFound where nothing is there. `what` names the field or thing in messages.
absl::StatusOr<std::string> ResolveUnderRoots(const std::string& path, const std::vector<std::string>& roots,
                                              absl::string_view what);

// Both absolute and without "." or "..": `path` is `folder` or inside it.
bool IsInside(absl::string_view folder, absl::string_view path);

}  // namespace studio
