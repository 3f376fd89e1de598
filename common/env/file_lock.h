// A lock on a file that children share: it is held until every process that inherited the descriptor is gone, however
// it went. So whoever gets the lock knows that all of them are dead.
//
//   ASSIGN_OR_RETURN(FileLock lock, FileLock::TryAcquire("/state/ranks.lock"));   // Unavailable: still held
//   spec.inherited.push_back({lock.fd(), 4});
//
// Threading: any. Ownership: the FileLock owns our share.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/env/unique_fd.h"

namespace studio {

class FileLock {
 public:
  // Unavailable where another process holds it.
  static absl::StatusOr<FileLock> TryAcquire(const std::string& path);
  // Blocks until every holder is gone.
  static absl::StatusOr<FileLock> Acquire(const std::string& path);

  int fd() const { return fd_.get(); }

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace studio
