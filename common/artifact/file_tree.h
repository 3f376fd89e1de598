// A file or folder described by its contents.
//
//   ASSIGN_OR_RETURN(v1::Artifact model, HashTree("/models/smol", {}));
//   model.files(0).path() == "config.json", .size_bytes(), .sha256()
//
// Thread-safe: no state.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "proto/studio/v1/state.pb.h"

namespace studio {

struct TreeOptions {
  // Which files of a folder count, by their path in it. Empty: all. Not asked about a single file.
  std::function<bool(const std::string& path)> include;
  // Bytes hashed so far.
  std::function<void(int64_t bytes)> progress;
  // A folder outside the tree that its links may lead into (Hugging Face's cache keeps a snapshot's blobs beside it).
  // Empty: none.
  std::string link_root;
  int max_files = 10000;
};

// Files sorted by path; empty folders are left out. `uri` is left empty. NotFound where nothing is there;
// InvalidArgument for a link out of the tree, a device, an odd name, or a folder without files; Aborted for a file that
// changed while it was read.
absl::StatusOr<v1::Artifact> HashTree(const std::string& path, const TreeOptions& options);

// Every file that the artifact names is in the folder, with its size and hash. DataLoss names the first that is not.
// A single file's path is `folder`/its name.
absl::Status VerifyTree(const std::string& folder, const v1::Artifact& artifact);

// Names the contents: equal for equal paths, sizes and hashes, wherever they lie.
std::string ArtifactDigest(const v1::Artifact& artifact);

int64_t ArtifactBytes(const v1::Artifact& artifact);

// Paths, sizes and hashes are well-formed, paths differ and none is a folder of another: for artifacts that came over
// the network.
absl::Status CheckArtifact(const v1::Artifact& artifact);

}  // namespace studio
