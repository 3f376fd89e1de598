#include "tests/sim/sim_artifacts.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "common/status/macros.h"

namespace studio::sim {

std::string HashOf(const std::string& bytes) {
  std::string hash;
  for (uint64_t round = 1; round <= 4; ++round) {
    uint64_t value = 0xcbf29ce484222325u * round;
    for (const char c : bytes) value = (value ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
    absl::StrAppend(&hash, absl::Hex(value, absl::kZeroPad16));
  }
  return hash;
}

bool SimArtifacts::Reachable() {
  const absl::Time now = engine_.now();
  blocked_ = !known_ || !controller_.process().alive || controller_.process().paused_until > now ||
             cable_.up_blocked_until > now || cable_.down_blocked_until > now;
  return !blocked_;
}

absl::Status SimArtifacts::Fetch(const v1::Artifact& artifact, const std::string& folder,
                                 const std::atomic<bool>& cancelled) {
  if (cancelled) return absl::CancelledError("the attempt is over");
  if (!Reachable()) return absl::UnavailableError("blocked");
  RETURN_IF_ERROR(env_.MakeFolders(folder));
  for (const v1::FileRef& file : artifact.files()) {
    const auto blob = controller_.content().find(file.sha256());
    if (blob == controller_.content().end()) return absl::NotFoundError(absl::StrCat("no blob ", file.sha256()));
    RETURN_IF_ERROR(env_.WriteFile(absl::StrCat(folder, "/", file.path()), blob->second));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Artifact> SimArtifacts::Publish(const std::string& folder, const std::atomic<bool>& cancelled) {
  if (cancelled) return absl::CancelledError("the attempt is over");
  if (!Reachable()) return absl::UnavailableError("blocked");
  v1::Artifact artifact;
  artifact.set_uri("studio:");
  ASSIGN_OR_RETURN(const std::vector<std::string> names, env_.ListFolder(folder));
  for (const std::string& name : names) {
    ASSIGN_OR_RETURN(const std::string bytes, env_.ReadFile(absl::StrCat(folder, "/", name)));
    v1::FileRef& file = *artifact.add_files();
    file.set_path(name);
    file.set_size_bytes(static_cast<int64_t>(bytes.size()));
    file.set_sha256(HashOf(bytes));
    controller_.Put(file.sha256(), bytes);
  }
  return artifact;
}

void SimArtifacts::Run(Work work) {
  engine_.After(cable_.random.Ms(1, 800), &agent_, [this, work = std::move(work)]() mutable {
    blocked_ = false;
    std::function<void()> done = work();
    if (blocked_) return Run(std::move(work));
    done();
  });
}

}  // namespace studio::sim
