// The real files of this machine. See env.h.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/env/env.h"

namespace studio {

class PosixEnv : public Env {
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
};

// The Status that an errno means: "opening /x/y: No such file or directory".
absl::Status PosixError(int error_number, const char* doing, const std::string& path);

}  // namespace studio
