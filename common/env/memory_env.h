// Files in memory that crash and fail on demand: what a test of durability needs. See env.h.
//
//   MemoryEnv env;
//   Journal journal(env, "/state/journal");
//   …
//   env.FailAfter(2, absl::ResourceExhaustedError("disk full"));  // the third change fails, and all after it
//   env.Crash(/*torn_bytes=*/3);   // what was not synced is gone, but for the first 3 bytes of each file's tail
//
// Threading: belongs to one thread. An AppendFile must not outlive its Env.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/env/env.h"

namespace studio {

class MemoryEnv : public Env {
 public:
  absl::StatusOr<std::string> ReadFile(const std::string& path) override;
  absl::Status WriteFile(const std::string& path, std::string_view bytes) override;
  absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path) override;
  absl::Status Truncate(const std::string& path, int64_t size_bytes) override;
  absl::Status Link(const std::string& from, const std::string& to) override;
  absl::StatusOr<int64_t> FileSize(const std::string& path) override;
  bool Exists(const std::string& path) override;
  absl::Status MakeFolders(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path) override;
  absl::Status RemoveAll(const std::string& path) override;

  // The machine loses power: each file keeps what was synced and the first `torn_bytes` of what was not.
  void Crash(size_t torn_bytes = 0);

  // After `changes` more changes (appends, syncs, writes, …), each one fails with `error`.
  void FailAfter(int changes, absl::Status error);
  void StopFailing() { failure_.reset(); }

  // Changes the bytes of a file behind everyone's back, as a bad disk does.
  void Corrupt(const std::string& path, size_t offset);

 private:
  friend class MemoryAppendFile;

  struct File {
    std::string bytes;
    size_t synced = 0;
  };
  struct Failure {
    int changes_left;
    absl::Status error;
  };

  absl::Status Change();
  absl::Status CheckParent(const std::string& path) const;

  std::map<std::string, File> files_;
  std::set<std::string> folders_ = {"", "/"};
  std::optional<Failure> failure_;
};

}  // namespace studio
