// The few file operations that a store of blobs needs: durable, interruptible, never following what it should not.
// For the rest of the program files are behind common/env's Env; here the descriptors themselves matter.
//
//   ASSIGN_OR_RETURN(Fd fd, OpenForRead("/data/rows.jsonl"));
//   RETURN_IF_ERROR(ReadAll(fd, path, [&](absl::string_view bytes) { hash.Update(bytes); return absl::OkStatus(); }));
//
// Free functions are thread-safe; an Fd has one owner.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace studio {

// Owns a file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Fd() { Reset(-1); }
  int get() const { return fd_; }
  void Reset(int fd);

 private:
  int fd_ = -1;
};

// errno as a Status that names what was tried on which file.
absl::Status FileError(int error, absl::string_view what, absl::string_view path);

// A regular file's descriptor and size; folders, devices and pipes are refused.
absl::StatusOr<Fd> OpenForRead(const std::string& path, int64_t* size_bytes = nullptr);
// Created or opened for appending, not followed if it is a link.
absl::StatusOr<Fd> OpenForAppend(const std::string& path, int64_t* size_bytes);

absl::Status WriteAll(const Fd& fd, absl::string_view bytes, const std::string& path);
// At most `limit_bytes` (-1: all) from where the descriptor stands, in pieces of up to 1 MiB.
absl::Status ReadAll(const Fd& fd, const std::string& path, const std::function<absl::Status(absl::string_view)>& use,
                     int64_t limit_bytes = -1);

absl::Status SyncFile(const Fd& fd, const std::string& path);
// Makes names created in or moved into the folder survive a power cut.
absl::Status SyncFolder(const std::string& path);
// mkdir -p.
absl::Status MakeFolders(const std::string& path);
// Atomically, over what is there, and durably.
absl::Status MoveDurably(const std::string& from, const std::string& to);
// Gone afterwards; it is no error if it was before.
absl::Status RemoveFile(const std::string& path);
bool FileExists(const std::string& path);

// "a/b/c" → "a/b"; "c" → ".".
std::string FolderOf(const std::string& path);

}  // namespace studio
