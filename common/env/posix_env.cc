#include "common/env/posix_env.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/env/unique_fd.h"
#include "common/status/macros.h"

namespace studio {
namespace {

absl::Status WriteWhole(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd, bytes.data(), bytes.size());
    if (wrote >= 0) {
      bytes.remove_prefix(wrote);
    } else if (errno != EINTR) {
      return PosixError(errno, "writing", path);
    }
  }
  return absl::OkStatus();
}

absl::Status SyncDescriptor(int fd, const std::string& path) {
#ifdef F_FULLFSYNC  // macOS: fsync alone does not reach the disk
  if (fcntl(fd, F_FULLFSYNC) == 0) return absl::OkStatus();
#endif
  if (fsync(fd) != 0) return PosixError(errno, "syncing", path);
  return absl::OkStatus();
}

// A new or renamed entry is durable only once its folder is.
absl::Status SyncParent(const std::string& path) {
  const std::filesystem::path folder_path = std::filesystem::path(path).parent_path();
  const std::string parent = folder_path.empty() ? std::string(".") : folder_path.string();
  const UniqueFd folder(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return PosixError(errno, "opening", parent);
  return SyncDescriptor(folder.get(), parent);
}

class PosixAppendFile : public AppendFile {
 public:
  PosixAppendFile(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}

  absl::Status Append(std::string_view bytes) override { return WriteWhole(fd_.get(), bytes, path_); }
  absl::Status Sync() override {
#ifdef __linux__  // the size is data here: fdatasync writes it
    if (fdatasync(fd_.get()) != 0) return PosixError(errno, "syncing", path_);
    return absl::OkStatus();
#else
    return SyncDescriptor(fd_.get(), path_);
#endif
  }

 private:
  const UniqueFd fd_;
  const std::string path_;
};

absl::Status FilesystemError(const std::error_code& error, const char* doing, const std::string& path) {
  return error ? PosixError(error.value(), doing, path) : absl::OkStatus();
}

}  // namespace

absl::Status PosixError(int error_number, const char* doing, const std::string& path) {
  const std::string text = absl::StrCat(doing, " ", path, ": ", std::strerror(error_number));
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(text);
    default:
      return absl::InternalError(text);
  }
}

absl::StatusOr<std::string> PosixEnv::ReadFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return PosixError(errno, "opening", path);
  std::string bytes;
  char buffer[64 << 10];
  while (true) {
    const ssize_t got = read(fd.get(), buffer, sizeof buffer);
    if (got == 0) return bytes;
    if (got > 0) {
      bytes.append(buffer, got);
    } else if (errno != EINTR) {
      return PosixError(errno, "reading", path);
    }
  }
}

absl::Status PosixEnv::WriteFile(const std::string& path, std::string_view bytes) {
  const std::string temporary = absl::StrCat(path, ".tmp");
  {
    const UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd.valid()) return PosixError(errno, "creating", temporary);
    RETURN_IF_ERROR(WriteWhole(fd.get(), bytes, temporary));
    RETURN_IF_ERROR(SyncDescriptor(fd.get(), temporary));
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) return PosixError(errno, "replacing", path);
  return SyncParent(path);
}

absl::StatusOr<std::unique_ptr<AppendFile>> PosixEnv::OpenAppend(const std::string& path) {
  const bool created = !Exists(path);
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd.valid()) return PosixError(errno, "opening", path);
  if (created) RETURN_IF_ERROR(SyncParent(path));
  return std::make_unique<PosixAppendFile>(std::move(fd), path);
}

absl::Status PosixEnv::Truncate(const std::string& path, int64_t size_bytes) {
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return PosixError(errno, "opening", path);
  if (ftruncate(fd.get(), size_bytes) != 0) return PosixError(errno, "truncating", path);
  return SyncDescriptor(fd.get(), path);
}

absl::Status PosixEnv::Link(const std::string& from, const std::string& to) {
  if (unlink(to.c_str()) != 0 && errno != ENOENT) return PosixError(errno, "replacing", to);
  if (link(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  if (errno != EXDEV && errno != EPERM) return PosixError(errno, "linking", absl::StrCat(from, " as ", to));
  std::error_code error;
  std::filesystem::copy_file(from, to, error);
  return FilesystemError(error, "copying", absl::StrCat(from, " to ", to));
}

absl::StatusOr<int64_t> PosixEnv::FileSize(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return PosixError(errno, "looking at", path);
  return info.st_size;
}

bool PosixEnv::Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

absl::Status PosixEnv::MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  return FilesystemError(error, "making folder", path);
}

absl::StatusOr<std::vector<std::string>> PosixEnv::ListFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::directory_iterator entry(path, error);
  std::vector<std::string> names;
  while (!error && entry != std::filesystem::directory_iterator()) {
    names.push_back(entry->path().filename().string());
    entry.increment(error);
  }
  RETURN_IF_ERROR(FilesystemError(error, "listing", path));
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status PosixEnv::RemoveAll(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  return FilesystemError(error, "removing", path);
}

}  // namespace studio
