// Files behind an interface: the real ones (PosixEnv, posix_env.h) and ones in memory that fail and crash on demand
// (MemoryEnv, memory_env.h). One conformance suite runs over both.
//
//   RETURN_IF_ERROR(env.MakeFolders(dir));
//   RETURN_IF_ERROR(env.WriteFile(dir + "/worker.pb.txt", text));   // whole and durable, or not at all
//   ASSIGN_OR_RETURN(std::unique_ptr<AppendFile> journal, env.OpenAppend(dir + "/journal"));
//   RETURN_IF_ERROR(journal->Append(record));
//   RETURN_IF_ERROR(journal->Sync());                               // durable from here
//
// Errors: NotFound where a path does not exist, PermissionDenied, ResourceExhausted where the disk is full, else
// Internal; every message names the path. Paths are UTF-8, '/'-separated.
// Threading: an Env is safe from any thread, an AppendFile belongs to one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace studio {

// A file that only grows.
class AppendFile {
 public:
  virtual ~AppendFile() = default;
  virtual absl::Status Append(std::string_view bytes) = 0;
  // What was appended outlives a crash of the machine.
  virtual absl::Status Sync() = 0;
};

class Env {
 public:
  virtual ~Env() = default;

  virtual absl::StatusOr<std::string> ReadFile(const std::string& path) = 0;

  // Replaces the file: readers and crashes see the old bytes or the new ones, never a mixture. Durable on return.
  virtual absl::Status WriteFile(const std::string& path, std::string_view bytes) = 0;

  // Creates the file where it is not there.
  virtual absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path) = 0;

  // Cuts the file to its first `size_bytes`; durable on return.
  virtual absl::Status Truncate(const std::string& path, int64_t size_bytes) = 0;

  // A second name for a file that nobody changes any more; a copy where the two are on different disks. Replaces `to`.
  virtual absl::Status Link(const std::string& from, const std::string& to) = 0;

  virtual absl::StatusOr<int64_t> FileSize(const std::string& path) = 0;

  // A file or a folder.
  virtual bool Exists(const std::string& path) = 0;

  // With its parents. A folder that is there already is fine.
  virtual absl::Status MakeFolders(const std::string& path) = 0;

  // Names in the folder, sorted, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path) = 0;

  // A file or a folder with all that is in it. Nothing there is fine.
  virtual absl::Status RemoveAll(const std::string& path) = 0;
};

}  // namespace studio
