// Files by content, on their way between this machine and the controller's content store.
//
//   RETURN_IF_ERROR(artifacts.Fetch(model, "/state/inputs/ab12…", cancelled));
//   ASSIGN_OR_RETURN(v1::Artifact result, artifacts.Publish("/state/attempts/j1/out/result", cancelled));
//
// Blocking: called on threads of their own, any number at a time.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/artifact/content_store.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::worker {

class Artifacts {
 public:
  virtual ~Artifacts() = default;

  // The artifact's files as `folder`/path, from this machine's store or else from the controller's. Waits for a
  // controller that is away. Cancelled where `cancelled` becomes true.
  virtual absl::Status Fetch(const v1::Artifact& artifact, const std::string& folder,
                             const std::atomic<bool>& cancelled) = 0;

  // Hashes a folder, keeps its files in this machine's store and sends the controller what it lacks. With the URI by
  // which others can have it: "studio:", or "file:" where a file is too large to travel.
  virtual absl::StatusOr<v1::Artifact> Publish(const std::string& folder, const std::atomic<bool>& cancelled) = 0;

  // This machine's copies are of no more use here (the controller's stay).
  virtual void Release(const v1::Artifact& artifact) = 0;
};

// The real one.
class StoreArtifacts : public Artifacts {
 public:
  // `content_dir` holds this machine's store, `kept_dir` what is too large to travel.
  static absl::StatusOr<std::unique_ptr<StoreArtifacts>> Open(const std::string& content_dir,
                                                              const std::string& kept_dir);

  // Where transfers go from now on; empty until a controller was reached.
  void SetAddress(const std::string& address);

  absl::Status Fetch(const v1::Artifact& artifact, const std::string& folder,
                     const std::atomic<bool>& cancelled) override;
  absl::StatusOr<v1::Artifact> Publish(const std::string& folder, const std::atomic<bool>& cancelled) override;
  void Release(const v1::Artifact& artifact) override;

 private:
  StoreArtifacts(std::unique_ptr<ContentStore> store, std::string kept_dir)
      : store_(std::move(store)), kept_dir_(std::move(kept_dir)) {}

  absl::Status Keep(const std::string& folder, v1::Artifact& artifact);

  // Runs `once` against the controller of the moment until it is done or fails for good.
  absl::Status WithController(const std::atomic<bool>& cancelled,
                              const std::function<absl::Status(const std::string& address)>& once);

  const std::unique_ptr<ContentStore> store_;
  const std::string kept_dir_;
  std::mutex mutex_;
  std::string address_;
};

}  // namespace studio::worker
