// Blobs by the SHA-256 of their bytes, in a folder. What is in it is complete, verified and durable.
//
//   ASSIGN_OR_RETURN(auto store, ContentStore::Open("/var/lib/studio/content", {}));
//   ASSIGN_OR_RETURN(auto put, store->Put(file, store->HaveBytes(file.sha256())));   // goes on where it was cut off
//   RETURN_IF_ERROR(put->Append(chunk));
//   RETURN_IF_ERROR(put->Commit());                    // DataLoss where the hash is another; nothing is kept then
//   RETURN_IF_ERROR(store->PlaceInFolder(artifact, "/data/model", ContentStore::Mode::kLink));
//
//   <folder>/blobs/ab/abcdef…   complete, read-only, never changed
//   <folder>/partial/abcdef…    the beginning of one; kept when a put is cut off
//   <folder>/partial/….N        that of a second put of the same blob at the same time; removed when it ends
//
// One process per folder (a lock says so). Thread-safe; a Writer has one thread at a time, and is outlived by its
// store.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/artifact/file_io.h"
#include "common/artifact/sha256.h"
#include "proto/studio/v1/state.pb.h"

namespace studio {

class ContentStore {
 public:
  struct Options {
    // Larger blobs are refused: they belong on a shared root or an object store.
    int64_t max_blob_bytes = int64_t{1} << 30;
    // Of all blobs together. 0: what the disk holds.
    int64_t quota_bytes = 0;
    // Runs when the disk could not sync a blob, on the thread that asked for it: the blob is gone, and nothing that
    // this process hears of that disk afterwards is worth anything. Must not call the store. Empty: nobody is told.
    std::function<void(const absl::Status&)> on_sync_failure = {};
  };
  // kLink shares the disk blocks, for folders whose users never change a file; kCopy for anybody else's. A link across
  // file systems becomes a copy.
  enum class Mode { kLink, kCopy };
  class Writer;

  // Makes the folder where it is missing. FailedPrecondition where another process has it.
  static absl::StatusOr<std::unique_ptr<ContentStore>> Open(std::string folder, Options options);

  int64_t max_blob_bytes() const { return options_.max_blob_bytes; }
  bool Has(const std::string& sha256) const;
  // How much of it a Put may skip: all of it where it is complete, 0 while another put of it is under way.
  int64_t HaveBytes(const std::string& sha256) const;
  int64_t TotalBytes() const;

  // Starts or resumes writing a blob at `offset`. ResourceExhausted above max_blob_bytes or the quota; OutOfRange where
  // `offset` is past what the store has.
  absl::StatusOr<std::unique_ptr<Writer>> Put(const v1::FileRef& file, int64_t offset);

  // Takes a file in by its contents and names it `name` in the answer. kCopy for a client's own file (it may change).
  absl::StatusOr<v1::FileRef> Add(const std::string& path, const std::string& name, Mode mode);

  // A blob to read. NotFound.
  absl::StatusOr<Fd> OpenBlob(const std::string& sha256, int64_t* size_bytes) const;
  // Where a blob lies, for readers on this machine. NotFound.
  absl::StatusOr<std::string> BlobPath(const std::string& sha256) const;
  // Reads it all. DataLoss where the disk changed it: it is removed, so that it can be fetched anew.
  absl::Status Verify(const std::string& sha256);
  absl::Status Remove(const std::string& sha256);

  // Somebody is about to refer to it. False where it is not there; else it counts as new from now on.
  bool Touch(const std::string& sha256);
  // Removes a blob that was neither put nor touched for `untouched`, by its file's time. Returns the bytes that this
  // freed: 0 where it stays or is not there. What refers to it is the caller's to know.
  absl::StatusOr<int64_t> RemoveUntouched(const std::string& sha256, absl::Duration untouched);
  // Those that RemoveUntouched would remove. Walks the folder.
  std::vector<std::string> Untouched(absl::Duration untouched) const;
  // Removes the beginnings of blobs that nobody went on with for `untouched`. Returns the bytes.
  int64_t RemovePartials(absl::Duration untouched);
  // While one lives, RemoveUntouched removes nothing: for who reads a list of blobs one by one.
  class KeepAll;

  // Gives the other store a blob of this one, by a link where the file system allows it. NotFound.
  absl::Status Share(const std::string& sha256, ContentStore& other) const;

  // The artifact's files as `folder`/path, over what is there. NotFound names the first blob that is missing. Copies
  // are verified on the way.
  absl::Status PlaceInFolder(const v1::Artifact& artifact, const std::string& folder, Mode mode) const;

 private:
  ContentStore(std::string folder, Options options, Fd lock);
  absl::Status Scan();
  std::string Blob(const std::string& sha256) const;
  absl::Status CheckRoom(const v1::FileRef& file) const;
  // Where `sync` fails, the blob at that path goes (empty: there is none yet), on_sync_failure runs, and no other sync
  // is tried: FailedPrecondition.
  absl::Status Durably(const std::function<absl::Status()>& sync, const std::string& blob) const;
  // Of a new blob, in its folders.
  absl::Status SyncEntry(const std::string& blob) const;

  const std::string folder_;
  const Options options_;
  const Fd lock_;
  mutable std::atomic<bool> ill_ = false;  // a sync failed
  mutable std::mutex entry_mutex_;         // held while folders are synced
  mutable std::mutex mutex_;
  // Under mutex_: blobs being put, with a count of puts so far; bytes of complete blobs.
  std::map<std::string, int> putting_;
  int keeping_all_ = 0;
  int64_t next_suffix_ = 1;
  int64_t total_bytes_ = 0;
};

class ContentStore::KeepAll {
 public:
  explicit KeepAll(ContentStore& store);
  ~KeepAll();
  KeepAll(const KeepAll&) = delete;
  KeepAll& operator=(const KeepAll&) = delete;

 private:
  ContentStore& store_;
};

// One blob on its way in. Dropped without Commit, it leaves what it has for the next Put.
class ContentStore::Writer {
 public:
  ~Writer();
  // OutOfRange past the promised size: nothing is kept.
  absl::Status Append(absl::string_view bytes);
  // Durable and visible on OK. OutOfRange where bytes are missing (what there is stays, to be resumed).
  absl::Status Commit();
  int64_t size_bytes() const { return written_; }

 private:
  friend class ContentStore;
  Writer(ContentStore& store, v1::FileRef file, std::string path, bool primary)
      : store_(store), file_(std::move(file)), path_(std::move(path)), primary_(primary) {}
  void Discard();

  ContentStore& store_;
  const v1::FileRef file_;
  std::string path_;
  const bool primary_;
  Fd fd_;
  Sha256 hash_;
  int64_t written_ = 0;
};

}  // namespace studio
