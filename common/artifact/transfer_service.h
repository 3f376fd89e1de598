// The Transfer service over a content store.
//
//   TransferService service(*store, {});
//   grpc::ServerBuilder().RegisterService(&service);
//
// Each stream has one operation outstanding, so its state needs no lock; disk work runs on the service's own threads.
// The store outlives the service, and the service its server.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "common/artifact/content_store.h"
#include "common/artifact/io_pool.h"
#include "proto/studio/v1/controller.grpc.pb.h"

namespace studio {

class TransferService final : public v1::Transfer::CallbackService {
 public:
  struct Options {
    // Asked at the start of every call, with "transfer.find", "transfer.upload" or "transfer.download". Empty: all may.
    std::function<absl::Status(const grpc::CallbackServerContext& context, const std::string& action)> authorize;
    int threads = 4;
  };

  TransferService(ContentStore& store, Options options);

  grpc::ServerUnaryReactor* FindMissing(grpc::CallbackServerContext* context, const v1::FindMissingRequest* request,
                                        v1::FindMissingResponse* response) override;
  grpc::ServerReadReactor<v1::UploadRequest>* Upload(grpc::CallbackServerContext* context,
                                                     v1::UploadResponse* response) override;
  grpc::ServerWriteReactor<v1::DownloadResponse>* Download(grpc::CallbackServerContext* context,
                                                           const v1::DownloadRequest* request) override;

 private:
  absl::Status Authorize(const grpc::CallbackServerContext& context, const std::string& action) const;

  ContentStore& store_;
  const Options options_;
  IoPool pool_;
};

}  // namespace studio
