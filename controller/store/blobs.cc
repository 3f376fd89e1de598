#include "controller/store/blobs.h"

#include "absl/strings/match.h"
#include "common/status/check.h"

namespace studio::controller {
namespace {

void Append(const v1::Artifact& artifact, std::vector<v1::FileRef>& blobs) {
  if (absl::StartsWith(artifact.uri(), "studio:")) {
    blobs.insert(blobs.end(), artifact.files().begin(), artifact.files().end());
  }
}

}  // namespace

std::vector<v1::FileRef> BlobsOf(const v1::JobRecord& record) {
  std::vector<v1::FileRef> blobs;
  for (const v1::Input& input : record.inputs()) Append(input.artifact(), blobs);
  Append(record.result(), blobs);
  if (absl::StartsWith(record.checkpoint().uri(), "studio:")) {
    for (const v1::CheckpointShard& shard : record.checkpoint().shards()) blobs.push_back(shard.file());
  }
  return blobs;
}

void NamedBlobs::Add(const v1::JobRecord& record) {
  for (const v1::FileRef& file : BlobsOf(record)) {
    Blob& blob = blobs_[file.sha256()];
    if (blob.names++ > 0) continue;
    blob.size_bytes = file.size_bytes();
    bytes_ += blob.size_bytes;
  }
}

std::vector<std::string> NamedBlobs::Remove(const v1::JobRecord& record) {
  std::vector<std::string> unnamed;
  for (const v1::FileRef& file : BlobsOf(record)) {
    const auto found = blobs_.find(file.sha256());
    STUDIO_CHECK(found != blobs_.end()) << record.id() << " named no " << file.sha256();
    if (--found->second.names > 0) continue;
    bytes_ -= found->second.size_bytes;
    unnamed.push_back(found->first);
    blobs_.erase(found);
  }
  return unnamed;
}

}  // namespace studio::controller
