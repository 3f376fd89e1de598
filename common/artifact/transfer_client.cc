#include "common/artifact/transfer_client.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/artifact/file_tree.h"
#include "common/status/grpc_status.h"
#include "common/status/macros.h"
#include "common/time/jitter.h"

namespace studio {
namespace {

constexpr size_t kChunkBytes = 1 << 20;
// The store looks up at most 10,000 files for one call.
constexpr absl::Duration kFindDeadline = absl::Seconds(60);

absl::Status Stop() { return absl::CancelledError("the transfer was stopped"); }

// Worth another try: the connection broke, the store's state moved on, or bytes were damaged on the way.
bool Transient(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDataLoss(status) || absl::IsOutOfRange(status) ||
         absl::IsAborted(status) || absl::IsDeadlineExceeded(status);
}

// CANCELLED, asked for by nobody here, is gRPC's word for a server that stops before it answers.
absl::Status FromServer(const grpc::Status& answer) {
  const absl::Status status = FromGrpc(answer);
  if (!absl::IsCancelled(status)) return status;
  return absl::UnavailableError(absl::StrCat("the server went away (", status.message(), ")"));
}

absl::Status Named(const v1::FileRef& file, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(file.path(), ": ", status.message()));
}

// Counts bytes over all files of a transfer.
class Meter {
 public:
  Meter(const v1::Artifact& artifact, const TransferProgress& report)
      : total_(ArtifactBytes(artifact)), report_(report) {}
  // `now` of the current file's bytes are there.
  void Current(int64_t now) {
    if (report_) report_(before_ + now, total_);
  }
  void Finished(const v1::FileRef& file) {
    before_ += file.size_bytes();
    Current(0);
  }

 private:
  int64_t before_ = 0;
  const int64_t total_;
  const TransferProgress& report_;
};

}  // namespace

TransferClient::TransferClient(const std::shared_ptr<grpc::Channel>& channel, Options options)
    : stub_(v1::Transfer::NewStub(channel)), options_(options) {}

absl::Status TransferClient::WithRetries(const std::function<absl::Status()>& once) const {
  absl::Duration wait = options_.backoff;
  absl::Status status;
  for (int attempt = 1; attempt <= options_.attempts; ++attempt) {
    if (Stopped()) return Stop();
    status = once();
    if (status.ok() || !Transient(status) || attempt == options_.attempts) break;
    std::this_thread::sleep_for(absl::ToChronoMilliseconds(Jittered(wait)));
    wait = std::min(2 * wait, absl::Seconds(5));
  }
  return status;
}

absl::StatusOr<v1::FindMissingResponse> TransferClient::FindMissing(const v1::Artifact& artifact) {
  v1::FindMissingRequest request;
  *request.mutable_files() = artifact.files();
  v1::FindMissingResponse response;
  RETURN_IF_ERROR(WithRetries([&] {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kFindDeadline));
    response.Clear();
    return FromServer(stub_->FindMissing(&context, request, &response));
  }));
  return response;
}

absl::Status TransferClient::Upload(const std::string& path, const v1::Artifact& artifact,
                                    const TransferProgress& progress) {
  ASSIGN_OR_RETURN(const v1::FindMissingResponse missing, FindMissing(artifact));
  std::map<std::string, int64_t> have;
  for (const v1::MissingFile& file : missing.files()) have[file.sha256()] = file.have_bytes();
  Meter meter(artifact, progress);
  for (const v1::FileRef& file : artifact.files()) {
    if (const auto found = have.find(file.sha256()); found != have.end()) {
      const std::string source = artifact.single_file() ? path : absl::StrCat(path, "/", file.path());
      int64_t offset = found->second;
      bool first = true;
      RETURN_IF_ERROR(Named(file, WithRetries([&] {
                              if (!std::exchange(first, false)) {
                                v1::Artifact one;
                                *one.add_files() = file;
                                ASSIGN_OR_RETURN(const v1::FindMissingResponse now, FindMissing(one));
                                if (now.files_size() == 0) return absl::OkStatus();
                                offset = now.files(0).have_bytes();
                              }
                              return UploadOnce(source, file, offset, [&](int64_t sent) { meter.Current(sent); });
                            })));
      have.erase(found);  // the same bytes under another name go once
    }
    meter.Finished(file);
  }
  return absl::OkStatus();
}

absl::Status TransferClient::UploadOnce(const std::string& path, const v1::FileRef& file, int64_t offset,
                                        const std::function<void(int64_t)>& sent) {
  ASSIGN_OR_RETURN(const Fd fd, OpenForRead(path));
  if (lseek(fd.get(), offset, SEEK_SET) < 0) return FileError(errno, "read", path);
  grpc::ClientContext context;
  v1::UploadResponse response;
  const auto stream = stub_->Upload(&context, &response);
  v1::UploadRequest request;
  *request.mutable_file() = file;
  request.set_offset(offset);
  bool open = true, first = true;
  const auto send = [&](absl::string_view bytes) {
    request.set_data(bytes.data(), bytes.size());
    open = open && stream->Write(request);
    request.Clear();
    first = false;
    if (open && options_.sent_bytes != nullptr) *options_.sent_bytes += static_cast<int64_t>(bytes.size());
    offset += bytes.size();
    if (sent) sent(offset);
    // A closed stream has its reason in Finish.
    return open && !Stopped() ? absl::OkStatus() : absl::CancelledError();
  };
  const int64_t left = file.size_bytes() - offset;
  const absl::Status read = ReadAll(fd, path, send, left);
  if (open && read.ok() && first) (void)send("");
  if (open && !read.ok()) context.TryCancel();
  if (open && read.ok()) stream->WritesDone();
  const absl::Status status = FromServer(stream->Finish());
  if (Stopped()) return Stop();
  return open && !read.ok() ? read : status;
}

absl::Status TransferClient::DownloadOnce(const v1::FileRef& file, int64_t offset,
                                          const std::function<absl::Status(absl::string_view)>& use) {
  grpc::ClientContext context;
  v1::DownloadRequest request;
  request.set_sha256(file.sha256());
  request.set_offset(offset);
  const auto stream = stub_->Download(&context, request);
  v1::DownloadResponse response;
  absl::Status used;
  while (used.ok() && stream->Read(&response)) used = Stopped() ? Stop() : use(response.data());
  if (!used.ok()) context.TryCancel();
  const absl::Status status = FromServer(stream->Finish());
  return used.ok() ? status : used;
}

absl::Status TransferClient::DownloadFile(const v1::FileRef& file, const std::string& path,
                                          const std::function<void(int64_t)>& got) {
  const std::string part = absl::StrCat(path, ".part");
  return WithRetries([&]() -> absl::Status {
    int64_t size = 0;
    ASSIGN_OR_RETURN(const Fd fd, OpenForAppend(part, &size));
    if (size > file.size_bytes()) {
      if (ftruncate(fd.get(), 0) != 0) return FileError(errno, "cut", part);
      size = 0;
    }
    Sha256 hash;
    RETURN_IF_ERROR(ReadAll(
        fd, part,
        [&](absl::string_view bytes) {
          hash.Update(bytes);
          return absl::OkStatus();
        },
        size));
    RETURN_IF_ERROR(DownloadOnce(file, size, [&](absl::string_view bytes) {
      hash.Update(bytes);
      size += bytes.size();
      if (got) got(std::min(size, file.size_bytes()));
      return WriteAll(fd, bytes, part);
    }));
    if (hash.Hex() != file.sha256()) {
      RETURN_IF_ERROR(RemoveFile(part));
      return absl::DataLossError(absl::StrCat("the bytes that came have SHA-256 ", hash.Hex(), ", not ", file.sha256(),
                                              ": nothing was kept; try again"));
    }
    if (const absl::Status synced = SyncFile(fd, part); !synced.ok()) {
      (void)RemoveFile(part);  // gone on with, it would be taken for what was never written
      return synced;
    }
    return MoveDurably(part, path);
  });
}

absl::Status TransferClient::DownloadToFolder(const v1::Artifact& artifact, const std::string& folder,
                                              const TransferProgress& progress) {
  RETURN_IF_ERROR(CheckArtifact(artifact));
  Meter meter(artifact, progress);
  RETURN_IF_ERROR(MakeFolders(folder));
  for (const v1::FileRef& file : artifact.files()) {
    const std::string path = absl::StrCat(folder, "/", file.path());
    v1::Artifact one;
    *one.add_files() = file;
    if (!FileExists(path) || !VerifyTree(folder, one).ok()) {
      RETURN_IF_ERROR(MakeFolders(FolderOf(path)));
      RETURN_IF_ERROR(Named(file, DownloadFile(file, path, [&](int64_t got) { meter.Current(got); })));
    }
    meter.Finished(file);
  }
  return absl::OkStatus();
}

absl::Status TransferClient::DownloadBlob(const v1::FileRef& file, ContentStore& store,
                                          const std::function<void(int64_t)>& got) {
  return WithRetries([&]() -> absl::Status {
    if (store.Has(file.sha256())) return absl::OkStatus();
    ASSIGN_OR_RETURN(const std::unique_ptr<ContentStore::Writer> writer,
                     store.Put(file, std::min(store.HaveBytes(file.sha256()), file.size_bytes())));
    RETURN_IF_ERROR(DownloadOnce(file, writer->size_bytes(), [&](absl::string_view bytes) {
      RETURN_IF_ERROR(writer->Append(bytes));
      if (got) got(writer->size_bytes());
      return absl::OkStatus();
    }));
    return writer->Commit();
  });
}

absl::Status TransferClient::DownloadToStore(const v1::Artifact& artifact, ContentStore& store,
                                             const TransferProgress& progress) {
  RETURN_IF_ERROR(CheckArtifact(artifact));
  Meter meter(artifact, progress);
  for (const v1::FileRef& file : artifact.files()) {
    RETURN_IF_ERROR(Named(file, DownloadBlob(file, store, [&](int64_t got) { meter.Current(got); })));
    meter.Finished(file);
  }
  return absl::OkStatus();
}

std::string TransferAddress(const std::string& dialled, const std::string& announced) {
  const size_t colon = announced.rfind(':');
  if (colon == std::string::npos) return announced;
  const std::string host = announced.substr(0, colon);
  if (!host.empty() && host != "0.0.0.0" && host != "[::]") return announced;
  const size_t dialled_colon = dialled.rfind(':');
  // A ']' after the colon: an IPv6 address without a port.
  const bool has_port = dialled_colon != std::string::npos && dialled.find(']', dialled_colon) == std::string::npos;
  return absl::StrCat(has_port ? dialled.substr(0, dialled_colon) : dialled, announced.substr(colon));
}

}  // namespace studio
