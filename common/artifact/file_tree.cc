#include "common/artifact/file_tree.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/artifact/file_io.h"
#include "common/artifact/sha256.h"
#include "common/artifact/uri.h"
#include "common/status/macros.h"

namespace studio {
namespace {

namespace fs = std::filesystem;

absl::Status Refused(const fs::path& path, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(path.string(), ": ", why));
}

absl::Status FromCode(const std::error_code& code, const fs::path& path) {
  return FileError(code.value(), "look at", path.string());
}

absl::StatusOr<v1::FileRef> HashFile(const std::string& path, const std::string& name, int64_t before,
                                     const TreeOptions& options) {
  int64_t size = 0, read = 0;
  ASSIGN_OR_RETURN(const Fd fd, OpenForRead(path, &size));
  Sha256 hash;
  RETURN_IF_ERROR(ReadAll(fd, path, [&](absl::string_view bytes) {
    hash.Update(bytes);
    read += bytes.size();
    if (options.progress) options.progress(before + read);
    return absl::OkStatus();
  }));
  if (read != size) {
    return absl::AbortedError(absl::StrCat(path, ": changed while it was read (", size, " bytes, then ", read, ")"));
  }
  v1::FileRef file;
  file.set_path(name);
  file.set_size_bytes(size);
  file.set_sha256(hash.Hex());
  return file;
}

// A link is followed only within the tree (or into link_root), so that what leaves a machine is what was named.
absl::Status CheckLink(const fs::path& link, const fs::path& root, const TreeOptions& options) {
  std::error_code code;
  const fs::path target = fs::canonical(link, code);
  if (code) return Refused(link, "is a link to nowhere: remove it, or put back what it leads to");
  if (IsInside(root.string(), target.string())) return absl::OkStatus();
  if (!options.link_root.empty()) {
    const fs::path extra = fs::canonical(options.link_root, code);
    if (!code && IsInside(extra.string(), target.string())) return absl::OkStatus();
  }
  return Refused(link, absl::StrCat("is a link out of the folder, to ", target.string(),
                                    ": name a copy with the links resolved (cp -rL)"));
}

// Paths of the files below `root`/`below`, relative to root.
absl::Status Collect(const fs::path& root, const std::string& below, const TreeOptions& options, int depth,
                     int& visited, std::vector<std::string>& paths) {
  if (depth > 32) return Refused(root / below, "lies more than 32 folders deep (a link in a circle?)");
  std::error_code code;
  fs::directory_iterator entries(root / below, code);
  if (code) return FromCode(code, root / below);
  for (const fs::directory_entry& entry : entries) {
    const std::string name = absl::StrCat(below, below.empty() ? "" : "/", entry.path().filename().string());
    if (++visited > 10 * options.max_files) return Refused(root, "has too many entries: is it the right folder?");
    const bool is_link = entry.is_symlink(code);
    const fs::file_status status = fs::status(entry.path(), code);
    const bool wanted = status.type() == fs::file_type::directory || !options.include || options.include(name);
    if (!wanted) continue;
    RETURN_IF_ERROR(CheckRelativePath(name));
    if (is_link) RETURN_IF_ERROR(CheckLink(entry.path(), root, options));
    if (status.type() == fs::file_type::directory) {
      RETURN_IF_ERROR(Collect(root, name, options, depth + 1, visited, paths));
    } else if (status.type() == fs::file_type::regular) {
      paths.push_back(name);
    } else {
      return Refused(entry.path(), "is neither a file nor a folder");
    }
    if (static_cast<int>(paths.size()) > options.max_files) {
      return Refused(root, absl::StrCat("has more than ", options.max_files, " files: is it the right folder?"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Artifact> HashTree(const std::string& path, const TreeOptions& options) {
  std::error_code code;
  const fs::path root = fs::canonical(path, code);
  if (code) return FromCode(code, path);
  v1::Artifact artifact;
  if (!fs::is_directory(root, code)) {
    // The name that was written, not that of a link's target.
    const std::string name = fs::path(path).filename().string();
    RETURN_IF_ERROR(CheckRelativePath(name));
    ASSIGN_OR_RETURN(*artifact.add_files(), HashFile(root.string(), name, 0, options));
    artifact.set_single_file(true);
    return artifact;
  }
  int visited = 0;
  std::vector<std::string> paths;
  RETURN_IF_ERROR(Collect(root, "", options, 0, visited, paths));
  if (paths.empty()) return Refused(path, "has no files that count");
  std::sort(paths.begin(), paths.end());
  int64_t hashed = 0;
  for (const std::string& name : paths) {
    ASSIGN_OR_RETURN(v1::FileRef file, HashFile((root / name).string(), name, hashed, options));
    hashed += file.size_bytes();
    *artifact.add_files() = std::move(file);
  }
  return artifact;
}

absl::Status VerifyTree(const std::string& folder, const v1::Artifact& artifact) {
  for (const v1::FileRef& file : artifact.files()) {
    RETURN_IF_ERROR(CheckRelativePath(file.path()));
    const std::string path = absl::StrCat(folder, "/", file.path());
    const absl::StatusOr<v1::FileRef> found = HashFile(path, file.path(), 0, {});
    if (!found.ok()) return absl::DataLossError(absl::StrCat(path, ": ", found.status().message()));
    if (found->size_bytes() != file.size_bytes() || found->sha256() != file.sha256()) {
      return absl::DataLossError(absl::StrCat(path, ": has ", found->size_bytes(), " bytes with SHA-256 ",
                                              found->sha256(), ", not ", file.size_bytes(), " with ", file.sha256()));
    }
  }
  return absl::OkStatus();
}

std::string ArtifactDigest(const v1::Artifact& artifact) {
  std::vector<std::string> lines;
  for (const v1::FileRef& file : artifact.files()) {
    lines.push_back(absl::StrCat(file.sha256(), " ", file.size_bytes(), " ", file.path(), "\n"));
  }
  std::sort(lines.begin(), lines.end());
  Sha256 hash;
  hash.Update(artifact.single_file() ? "file\n" : "folder\n");
  for (const std::string& line : lines) hash.Update(line);
  return hash.Hex();
}

int64_t ArtifactBytes(const v1::Artifact& artifact) {
  int64_t bytes = 0;
  for (const v1::FileRef& file : artifact.files()) bytes += file.size_bytes();
  return bytes;
}

absl::Status CheckArtifact(const v1::Artifact& artifact) {
  if (artifact.single_file() && artifact.files_size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("an artifact of a single file has ", artifact.files_size(), " files"));
  }
  std::set<std::string> paths;
  for (const v1::FileRef& file : artifact.files()) {
    RETURN_IF_ERROR(CheckRelativePath(file.path()));
    if (!IsSha256(file.sha256())) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": '", file.sha256(), "' is not a SHA-256 in hex"));
    }
    if (file.size_bytes() < 0) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": size ", file.size_bytes(), " is negative"));
    }
    if (!paths.insert(file.path()).second) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": is in the artifact twice"));
    }
  }
  for (const std::string& path : paths) {
    for (size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      if (paths.count(path.substr(0, slash)) != 0) {
        return absl::InvalidArgumentError(absl::StrCat(path.substr(0, slash), ": is a file and a folder at once"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace studio
