// A worker's disk as its agent sees it: a MemoryEnv at which the agent can die, before a change or after it. Only the
// agent's own changes count; ranks write to the MemoryEnv itself.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "common/env/memory_env.h"
#include "tests/sim/engine.h"

namespace studio::sim {

class SimDisk : public Env {
 public:
  explicit SimDisk(MemoryEnv& files) : files_(files) {}

  // The agent dies at this change from now (0: the next), once it is done or (`before`) undone.
  void CrashAt(int64_t change, bool before) {
    countdown_ = change;
    before_ = before;
  }
  void CrashNoMore() { countdown_ = -1; }

  // Of a file, what a loss of power leaves.
  std::string Durable(const std::string& path) const {
    const absl::StatusOr<std::string> bytes = files_.ReadFile(path);
    const auto synced = synced_.find(path);
    if (!bytes.ok() || synced == synced_.end()) return "";
    return bytes->substr(0, synced->second);
  }
  void Synced(const std::string& path) { synced_[path] = static_cast<size_t>(files_.FileSize(path).value_or(0)); }

  absl::StatusOr<std::string> ReadFile(const std::string& path) override { return files_.ReadFile(path); }
  absl::Status WriteFile(const std::string& path, std::string_view bytes) override {
    const absl::Status status = Change([&] { return files_.WriteFile(path, bytes); });
    if (status.ok()) Synced(path);
    return status;
  }
  absl::StatusOr<std::unique_ptr<AppendFile>> OpenAppend(const std::string& path) override;
  absl::Status Truncate(const std::string& path, int64_t size_bytes) override {
    return Change([&] { return files_.Truncate(path, size_bytes); });
  }
  absl::Status Link(const std::string& from, const std::string& to) override {
    return Change([&] { return files_.Link(from, to); });
  }
  absl::StatusOr<int64_t> FileSize(const std::string& path) override { return files_.FileSize(path); }
  bool Exists(const std::string& path) override { return files_.Exists(path); }
  absl::Status MakeFolders(const std::string& path) override {
    return Change([&] { return files_.MakeFolders(path); });
  }
  absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path) override {
    return files_.ListFolder(path);
  }
  absl::Status RemoveAll(const std::string& path) override {
    return Change([&] { return files_.RemoveAll(path); });
  }

  template <typename Do>
  absl::Status Change(Do change) {
    const bool now = countdown_ == 0;
    if (countdown_ >= 0) --countdown_;
    if (now && before_) throw Crash();
    const absl::Status status = change();
    if (now) throw Crash();
    return status;
  }

 private:
  MemoryEnv& files_;
  std::map<std::string, size_t> synced_;
  int64_t countdown_ = -1;
  bool before_ = false;
};

}  // namespace studio::sim
