// Which blobs of the content store a record names, and how many records name each.
//
//   NamedBlobs named;
//   named.Add(record);                                   // when it is decided
//   for (std::string& hash : named.Remove(older)) …      // once a newer one is durable: what nobody names any more
//
// Single-threaded.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "proto/studio/v1/state.pb.h"

namespace studio::controller {

// Every artifact in the content store that the record names: inputs, checkpoint, result.
std::vector<v1::FileRef> BlobsOf(const v1::JobRecord& record);

class NamedBlobs {
 public:
  void Add(const v1::JobRecord& record);
  // The hashes that no record names any more.
  std::vector<std::string> Remove(const v1::JobRecord& record);

  bool Has(const std::string& sha256) const { return blobs_.count(sha256) > 0; }
  // Of all of them together.
  int64_t bytes() const { return bytes_; }

 private:
  struct Blob {
    int64_t names = 0;
    int64_t size_bytes = 0;
  };
  std::map<std::string, Blob> blobs_;
  int64_t bytes_ = 0;
};

}  // namespace studio::controller
