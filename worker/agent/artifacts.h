// Files by content, on their way between this machine and the controller's content store. StoreArtifacts is the real
// one.
//
//   RETURN_IF_ERROR(artifacts.Fetch(model, "/state/inputs/ab12…", cancelled));
//   ASSIGN_OR_RETURN(v1::Artifact result, artifacts.Publish("/state/attempts/j1/out/result", cancelled));
//
// Fetch and Publish block: called in the background, any number at a time.
#pragma once

#include <atomic>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/studio/v1/state.pb.h"

namespace studio::worker {

class Artifacts {
 public:
  virtual ~Artifacts() = default;

  // Where the controller says that its transfer service listens (Welcome.transfer_address).
  virtual void SetAddress(const std::string& announced) = 0;

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

}  // namespace studio::worker
