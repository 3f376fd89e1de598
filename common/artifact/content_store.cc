#include "common/artifact/content_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/artifact/file_tree.h"
#include "common/artifact/uri.h"
#include "common/status/check.h"
#include "common/status/macros.h"

namespace studio {
namespace {

namespace fs = std::filesystem;

absl::Status CheckHash(const std::string& sha256) {
  if (IsSha256(sha256)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", sha256, "' is not a SHA-256 in lower-case hex"));
}

// How long ago the file was last written or touched; infinite where there is none. The time of day: it decides nothing
// that counts.
absl::Duration AgeOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return absl::InfiniteDuration();
  return absl::Now() - absl::TimeFromTimespec(info.st_mtim);
}

int64_t SizeOf(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : -1;
}

// Hashes on the way, so that a copy is known to be good.
absl::Status CopyVerified(const std::string& from, const std::string& to, const std::string& sha256) {
  ASSIGN_OR_RETURN(const Fd source, OpenForRead(from));
  const std::string temporary = absl::StrCat(to, ".copying");
  RETURN_IF_ERROR(RemoveFile(temporary));
  int64_t ignored = 0;
  ASSIGN_OR_RETURN(const Fd target, OpenForAppend(temporary, &ignored));
  Sha256 hash;
  absl::Status status = ReadAll(source, from, [&](absl::string_view bytes) {
    hash.Update(bytes);
    return WriteAll(target, bytes, temporary);
  });
  if (status.ok() && hash.Hex() != sha256) {
    status = absl::DataLossError(absl::StrCat(from, ": the disk gave other bytes than were stored (SHA-256 ",
                                              hash.Hex(), ", not ", sha256, ")"));
  }
  if (status.ok()) status = SyncFile(target, temporary);
  if (status.ok() && rename(temporary.c_str(), to.c_str()) != 0) status = FileError(errno, "move to", to);
  if (!status.ok()) (void)RemoveFile(temporary);
  return status;
}

// True where it was linked, false where the two are on different file systems.
absl::StatusOr<bool> Link(const std::string& from, const std::string& to) {
  if (link(from.c_str(), to.c_str()) == 0) return true;
  if (errno == EEXIST) {
    RETURN_IF_ERROR(RemoveFile(to));
    if (link(from.c_str(), to.c_str()) == 0) return true;
  }
  // EPERM, EMLINK, ENOTSUP: not on this file system, or not any more of this file.
  if (errno == EXDEV || errno == EPERM || errno == EMLINK || errno == ENOTSUP) return false;
  return FileError(errno, absl::StrCat("link ", from, " to"), to);
}

}  // namespace

ContentStore::ContentStore(std::string folder, Options options, Fd lock)
    : folder_(std::move(folder)), options_(options), lock_(std::move(lock)) {}

absl::StatusOr<std::unique_ptr<ContentStore>> ContentStore::Open(std::string folder, Options options) {
  RETURN_IF_ERROR(MakeFolders(absl::StrCat(folder, "/blobs")));
  RETURN_IF_ERROR(MakeFolders(absl::StrCat(folder, "/partial")));
  int64_t ignored = 0;
  ASSIGN_OR_RETURN(Fd lock, OpenForAppend(absl::StrCat(folder, "/lock"), &ignored));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(folder, ": another process has this content store open"));
  }
  std::unique_ptr<ContentStore> store(new ContentStore(std::move(folder), options, std::move(lock)));
  RETURN_IF_ERROR(store->Scan());
  return store;
}

absl::Status ContentStore::Scan() {
  std::error_code code;
  for (fs::recursive_directory_iterator it(absl::StrCat(folder_, "/blobs"), code), end; it != end; it.increment(code)) {
    if (code) break;
    if (it->is_regular_file(code)) total_bytes_ += static_cast<int64_t>(it->file_size(code));
  }
  if (code) return FileError(code.value(), "look at", folder_);
  // Second puts of a blob end with their process.
  for (const fs::directory_entry& entry : fs::directory_iterator(absl::StrCat(folder_, "/partial"), code)) {
    if (!IsSha256(entry.path().filename().string())) fs::remove(entry.path(), code);
  }
  return absl::OkStatus();
}

std::string ContentStore::Blob(const std::string& sha256) const {
  return absl::StrCat(folder_, "/blobs/", sha256.substr(0, 2), "/", sha256);
}

bool ContentStore::Has(const std::string& sha256) const { return IsSha256(sha256) && SizeOf(Blob(sha256)) >= 0; }

int64_t ContentStore::HaveBytes(const std::string& sha256) const {
  if (!IsSha256(sha256)) return 0;
  const int64_t complete = SizeOf(Blob(sha256));
  if (complete >= 0) return complete;
  std::lock_guard<std::mutex> lock(mutex_);
  if (putting_.count(sha256) != 0) return 0;
  return std::max<int64_t>(0, SizeOf(absl::StrCat(folder_, "/partial/", sha256)));
}

int64_t ContentStore::TotalBytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return total_bytes_;
}

absl::Status ContentStore::CheckRoom(const v1::FileRef& file) const {
  RETURN_IF_ERROR(CheckHash(file.sha256()));
  if (file.size_bytes() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(file.path(), ": size ", file.size_bytes(), " is negative"));
  }
  if (file.size_bytes() > options_.max_blob_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(file.path(), ": ", file.size_bytes(), " bytes are more than the store takes, ",
                     options_.max_blob_bytes, ": put it on a folder that workers share and name it as file:/folder/…"));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  if (options_.quota_bytes > 0 && total_bytes_ + file.size_bytes() > options_.quota_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(file.path(), ": ", file.size_bytes(),
                                                     " bytes do not fit: ", total_bytes_, " of ", options_.quota_bytes,
                                                     " bytes are used; raise --max-content-bytes, or keep fewer jobs"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ContentStore::Writer>> ContentStore::Put(const v1::FileRef& file, int64_t offset) {
  RETURN_IF_ERROR(CheckRoom(file));
  std::string path = absl::StrCat(folder_, "/partial/", file.sha256());
  bool primary = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    primary = putting_.emplace(file.sha256(), 1).second;
    if (!primary) path = absl::StrCat(path, ".", next_suffix_++);
  }
  std::unique_ptr<Writer> writer(new Writer(*this, file, path, primary));
  int64_t size = 0;
  ASSIGN_OR_RETURN(writer->fd_, OpenForAppend(path, &size));
  if (offset < 0 || offset > size || offset > file.size_bytes()) {
    return absl::OutOfRangeError(absl::StrCat(file.path(), ": offset ", offset, " of ", file.size_bytes(),
                                              " bytes; the store has ", size, ": ask it again and go on from there"));
  }
  if (ftruncate(writer->fd_.get(), offset) != 0) return FileError(errno, "cut", path);
  RETURN_IF_ERROR(ReadAll(
      writer->fd_, path,
      [&](absl::string_view bytes) {
        writer->hash_.Update(bytes);
        return absl::OkStatus();
      },
      offset));
  writer->written_ = offset;
  return writer;
}

absl::Status ContentStore::Durably(const std::function<absl::Status()>& sync, const std::string& blob) const {
  // Asked again, the disk would say that all is well: the kernel has given up what it could not write.
  if (ill_) return absl::FailedPreconditionError(absl::StrCat(folder_, ": its disk failed to sync; start again"));
  absl::Status synced = sync();
  if (synced.ok()) return synced;
  ill_ = true;
  if (!blob.empty()) (void)RemoveFile(blob);
  if (options_.on_sync_failure) options_.on_sync_failure(synced);
  return synced;
}

absl::Status ContentStore::SyncEntry(const std::string& blob) const {
  std::lock_guard<std::mutex> lock(entry_mutex_);
  return Durably(
      [&] {
        RETURN_IF_ERROR(SyncFolder(FolderOf(blob)));
        return SyncFolder(FolderOf(FolderOf(blob)));  // it may be the first of its folder
      },
      blob);
}

absl::StatusOr<v1::FileRef> ContentStore::Add(const std::string& path, const std::string& name, Mode mode) {
  ASSIGN_OR_RETURN(const v1::Artifact found, HashTree(path, {}));
  if (!found.single_file()) return absl::InvalidArgumentError(absl::StrCat(path, ": is a folder, not a file"));
  v1::FileRef file = found.files(0);
  file.set_path(name);
  if (Has(file.sha256())) return file;
  RETURN_IF_ERROR(CheckRoom(file));
  if (mode == Mode::kLink) {
    const std::string blob = Blob(file.sha256());
    RETURN_IF_ERROR(MakeFolders(FolderOf(blob)));
    {
      ASSIGN_OR_RETURN(const Fd fd, OpenForRead(path));
      RETURN_IF_ERROR(Durably([&] { return SyncFile(fd, path); }, ""));
    }
    ASSIGN_OR_RETURN(const bool linked, Link(path, blob));
    if (linked) {
      chmod(blob.c_str(), 0444);
      RETURN_IF_ERROR(SyncEntry(blob));
      std::lock_guard<std::mutex> lock(mutex_);
      total_bytes_ += file.size_bytes();
      return file;
    }
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Writer> writer, Put(file, 0));
  ASSIGN_OR_RETURN(const Fd fd, OpenForRead(path));
  RETURN_IF_ERROR(ReadAll(fd, path, [&](absl::string_view bytes) { return writer->Append(bytes); }));
  RETURN_IF_ERROR(writer->Commit());
  return file;
}

absl::StatusOr<std::string> ContentStore::BlobPath(const std::string& sha256) const {
  RETURN_IF_ERROR(CheckHash(sha256));
  if (!Has(sha256)) return absl::NotFoundError(absl::StrCat("no blob ", sha256, " in the content store"));
  return Blob(sha256);
}

absl::StatusOr<Fd> ContentStore::OpenBlob(const std::string& sha256, int64_t* size_bytes) const {
  ASSIGN_OR_RETURN(const std::string path, BlobPath(sha256));
  return OpenForRead(path, size_bytes);
}

absl::Status ContentStore::Verify(const std::string& sha256) {
  ASSIGN_OR_RETURN(const std::string path, BlobPath(sha256));
  ASSIGN_OR_RETURN(const std::string found, Sha256OfFile(path));
  if (found == sha256) return absl::OkStatus();
  RETURN_IF_ERROR(Remove(sha256));
  return absl::DataLossError(
      absl::StrCat("blob ", sha256, ": the disk gave bytes with SHA-256 ", found, "; it was removed: send it again"));
}

absl::Status ContentStore::Remove(const std::string& sha256) {
  RETURN_IF_ERROR(CheckHash(sha256));
  const int64_t size = SizeOf(Blob(sha256));
  RETURN_IF_ERROR(RemoveFile(Blob(sha256)));
  std::lock_guard<std::mutex> lock(mutex_);
  if (size > 0) total_bytes_ -= size;
  if (putting_.count(sha256) == 0) RETURN_IF_ERROR(RemoveFile(absl::StrCat(folder_, "/partial/", sha256)));
  return absl::OkStatus();
}

bool ContentStore::Touch(const std::string& sha256) {
  if (!IsSha256(sha256)) return false;
  std::lock_guard<std::mutex> lock(mutex_);
  // A file that is there and cannot be touched (a disk that turned read-only) is there all the same.
  return utimensat(AT_FDCWD, Blob(sha256).c_str(), nullptr, 0) == 0 || SizeOf(Blob(sha256)) >= 0;
}

absl::StatusOr<int64_t> ContentStore::RemoveUntouched(const std::string& sha256, absl::Duration untouched) {
  RETURN_IF_ERROR(CheckHash(sha256));
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t size = SizeOf(Blob(sha256));
  if (size < 0 || keeping_all_ > 0 || putting_.count(sha256) > 0 || AgeOf(Blob(sha256)) < untouched) return 0;
  // Not synced: what a crash brings back is found again.
  RETURN_IF_ERROR(RemoveFile(Blob(sha256)));
  total_bytes_ -= size;
  return size;
}

std::vector<std::string> ContentStore::Untouched(absl::Duration untouched) const {
  std::vector<std::string> found;
  std::error_code code;
  for (fs::recursive_directory_iterator it(absl::StrCat(folder_, "/blobs"), code), end; it != end; it.increment(code)) {
    if (code) break;
    std::string name = it->path().filename().string();
    if (IsSha256(name) && AgeOf(it->path().string()) >= untouched) found.push_back(std::move(name));
  }
  return found;
}

int64_t ContentStore::RemovePartials(absl::Duration untouched) {
  int64_t bytes = 0;
  std::error_code code;
  std::lock_guard<std::mutex> lock(mutex_);
  for (const fs::directory_entry& entry : fs::directory_iterator(absl::StrCat(folder_, "/partial"), code)) {
    const std::string name = entry.path().filename().string(), path = entry.path().string();
    if (!IsSha256(name) || putting_.count(name) > 0 || AgeOf(path) < untouched) continue;
    const int64_t size = SizeOf(path);
    if (RemoveFile(path).ok()) bytes += size;
  }
  return bytes;
}

ContentStore::KeepAll::KeepAll(ContentStore& store) : store_(store) {
  std::lock_guard<std::mutex> lock(store_.mutex_);
  ++store_.keeping_all_;
}

ContentStore::KeepAll::~KeepAll() {
  std::lock_guard<std::mutex> lock(store_.mutex_);
  --store_.keeping_all_;
}

absl::Status ContentStore::Share(const std::string& sha256, ContentStore& other) const {
  ASSIGN_OR_RETURN(const std::string from, BlobPath(sha256));
  if (other.Has(sha256)) return absl::OkStatus();
  const std::string to = other.Blob(sha256);
  RETURN_IF_ERROR(MakeFolders(FolderOf(to)));
  ASSIGN_OR_RETURN(const bool linked, Link(from, to));
  if (!linked) RETURN_IF_ERROR(CopyVerified(from, to, sha256));
  chmod(to.c_str(), 0444);
  RETURN_IF_ERROR(other.SyncEntry(to));
  std::lock_guard<std::mutex> lock(other.mutex_);
  other.total_bytes_ += SizeOf(to);
  return absl::OkStatus();
}

absl::Status ContentStore::PlaceInFolder(const v1::Artifact& artifact, const std::string& folder, Mode mode) const {
  RETURN_IF_ERROR(CheckArtifact(artifact));
  for (const v1::FileRef& file : artifact.files()) {
    const absl::StatusOr<std::string> blob = BlobPath(file.sha256());
    if (!blob.ok()) return absl::NotFoundError(absl::StrCat(file.path(), ": ", blob.status().message()));
    const std::string path = absl::StrCat(folder, "/", file.path());
    RETURN_IF_ERROR(MakeFolders(FolderOf(path)));
    if (mode == Mode::kLink) {
      ASSIGN_OR_RETURN(const bool linked, Link(*blob, path));
      if (linked) continue;
    }
    RETURN_IF_ERROR(CopyVerified(*blob, path, file.sha256()));
  }
  return absl::OkStatus();
}

ContentStore::Writer::~Writer() {
  if (!primary_ && !path_.empty()) (void)RemoveFile(path_);
  if (primary_) {
    std::lock_guard<std::mutex> lock(store_.mutex_);
    store_.putting_.erase(file_.sha256());
  }
}

void ContentStore::Writer::Discard() {
  (void)RemoveFile(path_);
  path_.clear();
  fd_.Reset(-1);
}

absl::Status ContentStore::Writer::Append(absl::string_view bytes) {
  STUDIO_CHECK(fd_.get() >= 0) << file_.path() << ": appended to after its end";
  if (static_cast<int64_t>(bytes.size()) > file_.size_bytes() - written_) {
    Discard();
    return absl::OutOfRangeError(
        absl::StrCat(file_.path(), ": more than the ", file_.size_bytes(), " bytes that were announced"));
  }
  RETURN_IF_ERROR(WriteAll(fd_, bytes, path_));
  hash_.Update(bytes);
  written_ += bytes.size();
  return absl::OkStatus();
}

absl::Status ContentStore::Writer::Commit() {
  STUDIO_CHECK(fd_.get() >= 0) << file_.path() << ": committed after its end";
  if (written_ < file_.size_bytes()) {
    return absl::OutOfRangeError(
        absl::StrCat(file_.path(), ": ended after ", written_, " of ", file_.size_bytes(), " bytes: go on from there"));
  }
  if (const std::string found = hash_.Hex(); found != file_.sha256()) {
    Discard();
    return absl::DataLossError(absl::StrCat(file_.path(), ": the bytes that came have SHA-256 ", found, ", not ",
                                            file_.sha256(), ": nothing was kept; send it again"));
  }
  if (const absl::Status synced = store_.Durably([&] { return SyncFile(fd_, path_); }, ""); !synced.ok()) {
    Discard();
    return synced;
  }
  fchmod(fd_.get(), 0444);
  futimens(fd_.get(), nullptr);  // its last bytes may have come long ago
  const std::string blob = store_.Blob(file_.sha256());
  RETURN_IF_ERROR(MakeFolders(FolderOf(blob)));
  std::lock_guard<std::mutex> lock(store_.mutex_);
  const bool is_new = SizeOf(blob) < 0;
  if (rename(path_.c_str(), blob.c_str()) != 0) return FileError(errno, absl::StrCat("move ", path_, " to"), blob);
  path_.clear();
  RETURN_IF_ERROR(store_.SyncEntry(blob));
  if (is_new) store_.total_bytes_ += file_.size_bytes();
  fd_.Reset(-1);
  return absl::OkStatus();
}

}  // namespace studio
