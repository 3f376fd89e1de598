// Artifacts between this machine's content store and the controller's transfer service.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<StoreArtifacts> artifacts,
//                    StoreArtifacts::Open("/state/content", "/state/kept", "gpu.lan:7070"));
//
// Safe from any thread.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "common/artifact/content_store.h"
#include "worker/agent/artifacts.h"

namespace studio::worker {

class StoreArtifacts : public Artifacts {
 public:
  // `content_dir` holds this machine's store, `kept_dir` what is too large to travel. `controller` is what the agent
  // dials, HOST:PORT: an announced address without a host is on the same one. `on_sync_failure` is the store's.
  static absl::StatusOr<std::unique_ptr<StoreArtifacts>> Open(
      const std::string& content_dir, const std::string& kept_dir, const std::string& controller,
      std::function<void(const absl::Status&)> on_sync_failure = {});

  void SetAddress(const std::string& announced) override;
  absl::Status Fetch(const v1::Artifact& artifact, const std::string& folder,
                     const std::atomic<bool>& cancelled) override;
  absl::StatusOr<v1::Artifact> Publish(const std::string& folder, const std::atomic<bool>& cancelled) override;
  void Release(const v1::Artifact& artifact) override;

  ContentStore& store() { return *store_; }
  // Since the start.
  int64_t sent_bytes() const { return sent_bytes_; }

 private:
  StoreArtifacts(std::unique_ptr<ContentStore> store, std::string kept_dir, std::string controller)
      : store_(std::move(store)), kept_dir_(std::move(kept_dir)), controller_(std::move(controller)) {}

  absl::Status Keep(const std::string& folder, v1::Artifact& artifact);
  // Removes blobs whose bytes are not what their names say, each looked at once in this process's life.
  void DropDamaged(const v1::Artifact& artifact);

  // Runs `once` against the controller of the moment until it is done or fails for good.
  absl::Status WithController(const std::atomic<bool>& cancelled,
                              const std::function<absl::Status(const std::string& address)>& once);

  const std::unique_ptr<ContentStore> store_;
  const std::string kept_dir_;
  const std::string controller_;
  std::atomic<int64_t> sent_bytes_ = 0;
  std::mutex mutex_;
  std::string address_;             // guarded by mutex_; empty until a controller was reached
  std::set<std::string> verified_;  // guarded by mutex_: hashes of blobs that were right when looked at
};

}  // namespace studio::worker
