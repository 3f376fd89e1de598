#include "common/env/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "common/env/posix_env.h"
#include "common/status/macros.h"

namespace studio {
namespace {

// flock and not fcntl: its lock belongs to the open file, which children share; fcntl's belongs to one process.
absl::StatusOr<UniqueFd> OpenAndLock(const std::string& path, int operation) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!fd.valid()) return PosixError(errno, "opening", path);
  while (flock(fd.get(), operation) != 0) {
    if (errno == EWOULDBLOCK) return absl::UnavailableError(absl::StrCat(path, " is locked by another process"));
    if (errno != EINTR) return PosixError(errno, "locking", path);
  }
  return fd;
}

}  // namespace

absl::StatusOr<FileLock> FileLock::TryAcquire(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenAndLock(path, LOCK_EX | LOCK_NB));
  return FileLock(std::move(fd));
}

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path) {
  ASSIGN_OR_RETURN(UniqueFd fd, OpenAndLock(path, LOCK_EX));
  return FileLock(std::move(fd));
}

}  // namespace studio
