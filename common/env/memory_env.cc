#include "common/env/memory_env.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio {
namespace {

std::string ParentOf(const std::string& path) { return std::filesystem::path(path).parent_path().string(); }

absl::Status NotThere(const std::string& path) {
  return absl::NotFoundError(absl::StrCat("opening ", path, ": No such file or directory"));
}

}  // namespace

class MemoryAppendFile : public AppendFile {
 public:
  MemoryAppendFile(MemoryEnv& env, std::string path) : env_(env), path_(std::move(path)) {}

  absl::Status Append(std::string_view bytes) override {
    RETURN_IF_ERROR(env_.Change());
    env_.files_[path_].bytes.append(bytes);
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    RETURN_IF_ERROR(env_.Change());
    MemoryEnv::File& file = env_.files_[path_];
    file.synced = file.bytes.size();
    return absl::OkStatus();
  }

 private:
  MemoryEnv& env_;
  const std::string path_;
};

absl::Status MemoryEnv::Change() {
  if (!failure_) return absl::OkStatus();
  if (failure_->changes_left == 0) return failure_->error;
  --failure_->changes_left;
  return absl::OkStatus();
}

absl::Status MemoryEnv::CheckParent(const std::string& path) const {
  return folders_.count(ParentOf(path)) > 0 ? absl::OkStatus() : NotThere(path);
}

absl::StatusOr<std::string> MemoryEnv::ReadFile(const std::string& path) {
  const auto file = files_.find(path);
  if (file == files_.end()) return NotThere(path);
  return file->second.bytes;
}

absl::Status MemoryEnv::WriteFile(const std::string& path, std::string_view bytes) {
  RETURN_IF_ERROR(CheckParent(path));
  RETURN_IF_ERROR(Change());
  files_[path] = {std::string(bytes), bytes.size()};
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<AppendFile>> MemoryEnv::OpenAppend(const std::string& path) {
  RETURN_IF_ERROR(CheckParent(path));
  RETURN_IF_ERROR(Change());
  files_.try_emplace(path);
  return std::make_unique<MemoryAppendFile>(*this, path);
}

absl::Status MemoryEnv::Truncate(const std::string& path, int64_t size_bytes) {
  const auto file = files_.find(path);
  if (file == files_.end()) return NotThere(path);
  RETURN_IF_ERROR(Change());
  file->second.bytes.resize(size_bytes);
  file->second.synced = file->second.bytes.size();
  return absl::OkStatus();
}

absl::Status MemoryEnv::Link(const std::string& from, const std::string& to) {
  const auto file = files_.find(from);
  if (file == files_.end()) return NotThere(from);
  RETURN_IF_ERROR(CheckParent(to));
  RETURN_IF_ERROR(Change());
  files_[to] = file->second;
  return absl::OkStatus();
}

absl::StatusOr<int64_t> MemoryEnv::FileSize(const std::string& path) {
  const auto file = files_.find(path);
  if (file == files_.end()) return NotThere(path);
  return static_cast<int64_t>(file->second.bytes.size());
}

bool MemoryEnv::Exists(const std::string& path) { return files_.count(path) > 0 || folders_.count(path) > 0; }

absl::Status MemoryEnv::MakeFolders(const std::string& path) {
  RETURN_IF_ERROR(Change());
  for (std::string folder = path; folders_.insert(folder).second;) folder = ParentOf(folder);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MemoryEnv::ListFolder(const std::string& path) {
  if (folders_.count(path) == 0) return NotThere(path);
  std::vector<std::string> names;
  const auto add_child = [&](const std::string& child) {
    if (child != path && ParentOf(child) == path) names.push_back(std::filesystem::path(child).filename().string());
  };
  for (const auto& [file, unused] : files_) add_child(file);
  for (const std::string& folder : folders_) add_child(folder);
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status MemoryEnv::RemoveAll(const std::string& path) {
  RETURN_IF_ERROR(Change());
  const auto inside = [&](const std::string& other) {
    return other == path || absl::StartsWith(other, absl::StrCat(path, "/"));
  };
  std::erase_if(files_, [&](const auto& file) { return inside(file.first); });
  std::erase_if(folders_, inside);
  return absl::OkStatus();
}

void MemoryEnv::Crash(size_t torn_bytes) {
  for (auto& [path, file] : files_) {
    file.bytes.resize(std::min(file.bytes.size(), file.synced + torn_bytes));
    file.synced = file.bytes.size();
  }
}

void MemoryEnv::FailAfter(int changes, absl::Status error) { failure_ = {changes, std::move(error)}; }

void MemoryEnv::Corrupt(const std::string& path, size_t offset) {
  std::string& bytes = files_.at(path).bytes;
  STUDIO_CHECK(offset < bytes.size()) << path;
  bytes[offset] = static_cast<char>(bytes[offset] ^ 0x5a);
}

}  // namespace studio
