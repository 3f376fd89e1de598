// Moves files to and from a controller's content store: only what is missing, going on where a connection broke,
// checked by hash at the receiving end.
//
//   TransferClient client(channel, {});
//   ASSIGN_OR_RETURN(v1::Artifact model, HashTree("/models/smol", {}));
//   RETURN_IF_ERROR(client.Upload("/models/smol", model, [](int64_t done, int64_t total) { … }));
//   RETURN_IF_ERROR(client.DownloadToFolder(record.result(), "./result", {}));
//
// Blocking calls; thread-safe.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/artifact/content_store.h"
#include "proto/studio/v1/controller.grpc.pb.h"

namespace studio {

// Bytes that need not (or no longer) be moved, and bytes in all.
using TransferProgress = std::function<void(int64_t done, int64_t total)>;

class TransferClient {
 public:
  struct Options {
    // Per blob, when the connection breaks; each goes on where the last one ended.
    int attempts = 6;
    // Before the second attempt; doubles up to 5 s. Half of each wait is by chance, so that a fleet spreads out.
    absl::Duration backoff = absl::Milliseconds(200);
    // Ends transfers early with Cancelled where it becomes true. May be null; outlives the client.
    const std::atomic<bool>* stop = nullptr;
    // Counts the bytes that uploads send. May be null; outlives the client.
    std::atomic<int64_t>* sent_bytes = nullptr;
  };

  TransferClient(const std::shared_ptr<grpc::Channel>& channel, Options options);

  // Sends the blobs that the store lacks. `path` is the folder (or the single file) that HashTree described.
  absl::Status Upload(const std::string& path, const v1::Artifact& artifact, const TransferProgress& progress);

  // Fetches the artifact's files to `folder`/path. Files that are there already with the right bytes stay; others are
  // replaced. A cut-off file is left as NAME.part and gone on with by the next call.
  absl::Status DownloadToFolder(const v1::Artifact& artifact, const std::string& folder,
                                const TransferProgress& progress);

  // Fetches the artifact's blobs that `store` lacks.
  absl::Status DownloadToStore(const v1::Artifact& artifact, ContentStore& store, const TransferProgress& progress);

 private:
  absl::StatusOr<v1::FindMissingResponse> FindMissing(const v1::Artifact& artifact);
  absl::Status UploadOnce(const std::string& path, const v1::FileRef& file, int64_t offset,
                          const std::function<void(int64_t)>& sent);
  // Hands over the bytes from `offset` on.
  absl::Status DownloadOnce(const v1::FileRef& file, int64_t offset,
                            const std::function<absl::Status(absl::string_view)>& use);
  absl::Status DownloadFile(const v1::FileRef& file, const std::string& path, const std::function<void(int64_t)>& got);
  absl::Status DownloadBlob(const v1::FileRef& file, ContentStore& store, const std::function<void(int64_t)>& got);
  // Calls `once` until it is well, the error is not the connection's, or attempts are used up.
  absl::Status WithRetries(const std::function<absl::Status()>& once) const;
  bool Stopped() const { return options_.stop != nullptr && options_.stop->load(); }

  const std::unique_ptr<v1::Transfer::Stub> stub_;
  const Options options_;
};

// The address to dial for transfers, from what the controller announces (GetVersionResponse or Welcome
// .transfer_address) and the address that it was reached at: an empty or wildcard host stands for the latter's.
// ("10.0.0.5:7070", ":7071") → "10.0.0.5:7071".
std::string TransferAddress(const std::string& dialled, const std::string& announced);

}  // namespace studio
