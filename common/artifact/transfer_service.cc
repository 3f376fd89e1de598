#include "common/artifact/transfer_service.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/artifact/sha256.h"
#include "common/status/grpc_status.h"

namespace studio {
namespace {

constexpr size_t kChunkBytes = 1 << 20;
constexpr int kMaxFiles = 10000;

// read → append → read …, then commit once the client has said that it is done.
class UploadStream final : public grpc::ServerReadReactor<v1::UploadRequest> {
 public:
  UploadStream(const grpc::CallbackServerContext& context, v1::UploadResponse& response, ContentStore& store,
               IoPool& pool, const absl::Status& allowed)
      : context_(context), response_(response), store_(store), pool_(pool) {
    if (allowed.ok()) {
      StartRead(&request_);
    } else {
      Finish(ToGrpc(allowed));
    }
  }

  void OnReadDone(bool ok) override {
    pool_.Post([this, ok] { ok ? Take() : End(); });
  }
  // What came stays for the next try: the writer keeps it when it goes.
  void OnDone() override { delete this; }

 private:
  void Take() {
    if (request_.data().size() > kChunkBytes) {
      return Refuse(absl::InvalidArgumentError(
          absl::StrCat("a chunk of ", request_.data().size(), " bytes; send at most ", kChunkBytes, " at a time")));
    }
    if (writer_ == nullptr) {
      if (!request_.has_file())
        return Refuse(absl::InvalidArgumentError("the first message of an upload names its file"));
      *response_.mutable_file() = request_.file();
      // Somebody was faster: nothing more to send.
      if (store_.Touch(request_.file().sha256())) return Finish(grpc::Status::OK);
      auto writer = store_.Put(request_.file(), request_.offset());
      if (!writer.ok()) return Refuse(writer.status());
      writer_ = *std::move(writer);
    }
    if (const absl::Status status = writer_->Append(request_.data()); !status.ok()) return Refuse(status);
    request_.Clear();
    StartRead(&request_);
  }

  void End() {
    if (context_.IsCancelled()) return Refuse(absl::CancelledError("the client went away"));
    if (writer_ == nullptr) return Refuse(absl::InvalidArgumentError("the first message of an upload names its file"));
    Refuse(writer_->Commit());
  }

  // The writer goes first: who asks again on hearing the answer can resume.
  void Refuse(const absl::Status& status) {
    writer_.reset();
    Finish(ToGrpc(status));
  }

  const grpc::CallbackServerContext& context_;
  v1::UploadResponse& response_;
  ContentStore& store_;
  IoPool& pool_;
  v1::UploadRequest request_;
  std::unique_ptr<ContentStore::Writer> writer_;
};

class DownloadStream final : public grpc::ServerWriteReactor<v1::DownloadResponse> {
 public:
  DownloadStream(const v1::DownloadRequest& request, ContentStore& store, IoPool& pool, const absl::Status& allowed)
      : request_(request), store_(store), pool_(pool) {
    if (allowed.ok()) {
      pool_.Post([this] { Open(); });
    } else {
      Finish(ToGrpc(allowed));
    }
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client went away"));
    pool_.Post([this] { Send(); });
  }
  void OnDone() override { delete this; }

 private:
  void Open() {
    auto fd = store_.OpenBlob(request_.sha256(), &size_);
    if (!fd.ok()) return Finish(ToGrpc(fd.status()));
    fd_ = *std::move(fd);
    offset_ = request_.offset();
    if (offset_ < 0 || offset_ > size_) {
      return Finish(ToGrpc(absl::OutOfRangeError(absl::StrCat("offset ", offset_, " of a blob of ", size_, " bytes"))));
    }
    Send();
  }

  void Send() {
    const size_t wanted = std::min<int64_t>(kChunkBytes, size_ - offset_);
    if (wanted == 0) return Finish(grpc::Status::OK);
    std::string& data = *response_.mutable_data();
    data.resize(wanted);
    const ssize_t got = pread(fd_.get(), data.data(), wanted, offset_);
    if (got <= 0) {
      return Finish(ToGrpc(absl::DataLossError(
          absl::StrCat("blob ", request_.sha256(), ": cannot be read at ", offset_, " of ", size_, " bytes"))));
    }
    data.resize(got);
    offset_ += got;
    StartWrite(&response_);
  }

  const v1::DownloadRequest request_;
  ContentStore& store_;
  IoPool& pool_;
  v1::DownloadResponse response_;
  Fd fd_;
  int64_t size_ = 0;
  int64_t offset_ = 0;
};

// What is said to be there is touched: the client is about to name it, and it must not be collected meanwhile.
absl::Status FindMissingIn(ContentStore& store, const v1::FindMissingRequest& request,
                           v1::FindMissingResponse& response) {
  if (request.files_size() > kMaxFiles) {
    return absl::InvalidArgumentError(absl::StrCat(request.files_size(), " files; ask for at most ", kMaxFiles));
  }
  for (const v1::FileRef& file : request.files()) {
    if (!IsSha256(file.sha256())) {
      return absl::InvalidArgumentError(absl::StrCat(file.path(), ": '", file.sha256(), "' is not a SHA-256 in hex"));
    }
    if (store.Touch(file.sha256())) continue;
    if (file.size_bytes() > store.max_blob_bytes()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          file.path(), ": ", file.size_bytes(), " bytes are more than the store takes, ", store.max_blob_bytes(),
          ": put it on a folder that workers share and name it as file:/folder/…"));
    }
    v1::MissingFile& missing = *response.add_files();
    missing.set_sha256(file.sha256());
    missing.set_have_bytes(std::min(store.HaveBytes(file.sha256()), file.size_bytes()));
  }
  return absl::OkStatus();
}

}  // namespace

TransferService::TransferService(ContentStore& store, Options options)
    : store_(store), options_(std::move(options)), pool_(options_.threads) {}

absl::Status TransferService::Authorize(const grpc::CallbackServerContext& context, const std::string& action) const {
  return options_.authorize ? options_.authorize(context, action) : absl::OkStatus();
}

grpc::ServerUnaryReactor* TransferService::FindMissing(grpc::CallbackServerContext* context,
                                                       const v1::FindMissingRequest* request,
                                                       v1::FindMissingResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (const absl::Status allowed = Authorize(*context, "transfer.find"); !allowed.ok()) {
    reactor->Finish(ToGrpc(allowed));
    return reactor;
  }
  pool_.Post([=, this] { reactor->Finish(ToGrpc(FindMissingIn(store_, *request, *response))); });
  return reactor;
}

grpc::ServerReadReactor<v1::UploadRequest>* TransferService::Upload(grpc::CallbackServerContext* context,
                                                                    v1::UploadResponse* response) {
  return new UploadStream(*context, *response, store_, pool_, Authorize(*context, "transfer.upload"));
}

grpc::ServerWriteReactor<v1::DownloadResponse>* TransferService::Download(grpc::CallbackServerContext* context,
                                                                          const v1::DownloadRequest* request) {
  return new DownloadStream(*request, store_, pool_, Authorize(*context, "transfer.download"));
}

}  // namespace studio
