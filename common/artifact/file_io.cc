#include "common/artifact/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio {
namespace {

constexpr size_t kPieceBytes = 1 << 20;

absl::Status CheckRegular(const Fd& fd, const std::string& path, int64_t* size_bytes) {
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return FileError(errno, "stat", path);
  if (S_ISDIR(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, ": is a folder, not a file"));
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, ": is not a regular file"));
  if (size_bytes != nullptr) *size_bytes = info.st_size;
  return absl::OkStatus();
}

}  // namespace

void Fd::Reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

absl::Status FileError(int error, absl::string_view what, absl::string_view path) {
  return absl::ErrnoToStatus(error, absl::StrCat(what, " ", path));
}

absl::StatusOr<Fd> OpenForRead(const std::string& path, int64_t* size_bytes) {
  // O_NONBLOCK: opening a pipe would wait for a writer.
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) return FileError(errno, "read", path);
  RETURN_IF_ERROR(CheckRegular(fd, path, size_bytes));
  return fd;
}

absl::StatusOr<Fd> OpenForAppend(const std::string& path, int64_t* size_bytes) {
  Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (fd.get() < 0) return FileError(errno, "write", path);
  RETURN_IF_ERROR(CheckRegular(fd, path, size_bytes));
  return fd;
}

absl::Status WriteAll(const Fd& fd, absl::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(errno, "write", path);
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status ReadAll(const Fd& fd, const std::string& path, const std::function<absl::Status(absl::string_view)>& use,
                     int64_t limit_bytes) {
  const auto buffer = std::make_unique<char[]>(kPieceBytes);
  int64_t left = limit_bytes;
  while (left != 0) {
    const size_t wanted = left < 0 ? kPieceBytes : std::min<int64_t>(kPieceBytes, left);
    const ssize_t got = read(fd.get(), buffer.get(), wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return FileError(errno, "read", path);
    if (got == 0) break;
    RETURN_IF_ERROR(use(absl::string_view(buffer.get(), got)));
    if (left > 0) left -= got;
  }
  return absl::OkStatus();
}

absl::Status SyncFile(const Fd& fd, const std::string& path) {
  if (fsync(fd.get()) != 0) return FileError(errno, "sync", path);
  return absl::OkStatus();
}

absl::Status SyncFolder(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) return FileError(errno, "open folder", path);
  return SyncFile(fd, path);
}

absl::Status MakeFolders(const std::string& path) {
  for (size_t slash = 0; slash != std::string::npos;) {
    slash = path.find('/', slash + 1);
    const std::string part = path.substr(0, slash);
    if (mkdir(part.c_str(), 0755) == 0 || errno == EEXIST || errno == EISDIR) continue;
    return FileError(errno, "make folder", part);
  }
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return FileError(errno, "make folder", path);
  if (!S_ISDIR(info.st_mode)) return absl::FailedPreconditionError(absl::StrCat(path, ": is in the way of a folder"));
  return absl::OkStatus();
}

absl::Status MoveDurably(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) != 0) return FileError(errno, absl::StrCat("move ", from, " to"), to);
  return SyncFolder(FolderOf(to));
}

absl::Status RemoveFile(const std::string& path) {
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return FileError(errno, "remove", path);
  return absl::OkStatus();
}

bool FileExists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace studio
