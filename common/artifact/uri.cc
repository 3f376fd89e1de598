#include "common/artifact/uri.h"

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/artifact/file_io.h"
#include "common/job/utf8.h"

namespace studio {
namespace {

absl::Status Malformed(absl::string_view text, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("'", absl::CHexEscape(text), "': ", why));
}

// "s3" of "s3://bucket". A single letter or a scheme without slashes may be an ordinary file name.
absl::string_view SchemeWithSlashes(absl::string_view text) {
  const size_t end = text.find("://");
  if (end == absl::string_view::npos || end == 0) return "";
  for (const char c : text.substr(0, end)) {
    if (!absl::ascii_isalnum(c) && c != '+' && c != '-' && c != '.') return "";
  }
  return text.substr(0, end);
}

bool IsJobId(absl::string_view id) {
  if (id.size() < 2 || id.size() > 19 || id[0] != 'j') return false;
  for (const char c : id.substr(1)) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  return true;
}

absl::StatusOr<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr), &std::free);
  if (real == nullptr) return FileError(errno, "find", path);
  return std::string(real.get());
}

}  // namespace

absl::StatusOr<Uri> ParseUri(absl::string_view text) {
  const absl::string_view written = text;
  if (text.empty()) return Malformed(written, "is empty");
  if (text.find('\0') != absl::string_view::npos) return Malformed(written, "holds a zero byte");
  Uri uri;
  if (text == "studio:") {
    uri.kind = Uri::Kind::kStudio;
  } else if (absl::ConsumePrefix(&text, "file:")) {
    uri.kind = Uri::Kind::kFile;
    if (absl::ConsumePrefix(&text, "//") && !absl::StartsWith(text, "/")) {
      return Malformed(written, "a file: URI has no host: write file:/folder/name");
    }
    if (!absl::StartsWith(text, "/")) return Malformed(written, "a file: URI has an absolute path: file:/folder/name");
    uri.path = std::string(text);
  } else if (absl::ConsumePrefix(&text, "hf://")) {
    uri.kind = Uri::Kind::kHuggingFace;
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('@', 1));
    uri.path = std::string(parts.first);
    uri.revision = absl::StrContains(text, "@") ? std::string(parts.second) : "main";
    if (!CheckRelativePath(uri.path).ok() || !CheckRelativePath(uri.revision).ok()) {
      return Malformed(written, "expected hf://organisation/name@revision");
    }
  } else if (absl::StartsWith(text, "job:") && IsJobId(text.substr(4, text.find('/') - 4))) {
    uri.kind = Uri::Kind::kJob;
    const size_t slash = text.find('/');
    uri.job_id = std::string(text.substr(4, slash - 4));
    uri.path = slash == absl::string_view::npos ? "result" : std::string(text.substr(slash + 1));
    if (!CheckRelativePath(uri.path).ok()) return Malformed(written, "expected job:j3/result");
  } else if (absl::StartsWith(text, "job:")) {
    return Malformed(written, "expected a job's id, as in job:j3/result");
  } else if (!SchemeWithSlashes(text).empty()) {
    return Malformed(written, absl::StrCat("scheme '", SchemeWithSlashes(text),
                                           "' is not known; accepted: a path, file:, hf:// or job:"));
  } else {
    uri.path = std::string(text);
  }
  return uri;
}

absl::Status CheckRelativePath(absl::string_view path) {
  const auto refused = [&](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat("path \"", absl::CHexEscape(path.substr(0, 200)), "\" ", why));
  };
  if (path.empty()) return refused("is empty");
  if (path.size() > 1024) return refused("is longer than 1024 bytes");
  if (path[0] == '/') return refused("is not relative");
  if (!IsValidUtf8(path)) return refused("is not UTF-8");
  for (const char c : path) {
    if (absl::ascii_iscntrl(c) || c == '\\') return refused("holds a control character or a backslash");
  }
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    if (part.empty() || part == "." || part == "..") return refused("has an empty, '.' or '..' part");
    if (part.size() > 255) return refused("has a part longer than 255 bytes");
  }
  return absl::OkStatus();
}

bool IsInside(absl::string_view folder, absl::string_view path) {
  absl::ConsumeSuffix(&folder, "/");
  return absl::ConsumePrefix(&path, folder) && (path.empty() || path[0] == '/');
}

absl::StatusOr<std::string> ResolveUnderRoots(const std::string& path, const std::vector<std::string>& roots,
                                              absl::string_view what) {
  // Whether something is there is nobody's business outside the roots: look at roots first.
  const absl::StatusOr<std::string> real = RealPath(path);
  bool written_inside = false;
  for (const std::string& root : roots) {
    const absl::StatusOr<std::string> real_root = RealPath(root);
    if (!real_root.ok()) continue;
    if (real.ok() && IsInside(*real_root, *real)) return *real;
    if (IsInside(root, path) && !absl::StrContains(absl::StrCat(path, "/"), "/../")) written_inside = true;
  }
  if (written_inside && !real.ok()) return real.status();
  return absl::PermissionDeniedError(
      absl::StrCat(what, ": ", path, " is outside the folders that this worker may read (",
                   roots.empty() ? "none: start it with --shared-root" : absl::StrJoin(roots, ", "), ")"));
}

}  // namespace studio
