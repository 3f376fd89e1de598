// A ControllerLink by gRPC, seen from the event loop.
//
//   GrpcLink link(loop, "127.0.0.1:7070", {.on_message = …, .on_closed = …});
//
// Threading: belongs to the loop's thread; gRPC's own threads only post to it. The loop must outlive it.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "proto/studio/v1/worker.grpc.pb.h"
#include "worker/agent/controller_link.h"
#include "worker/agent/loop.h"

namespace studio::worker {

class GrpcLink : public ControllerLink {
 public:
  GrpcLink(Loop& loop, const std::string& address, Callbacks callbacks);
  // Waits until gRPC has let go of every stream.
  ~GrpcLink() override;

  void Dial() override;
  void Send(v1::WorkerUp message) override;
  void HangUp() override;

 private:
  class Stream;
  struct Shared;

  std::shared_ptr<Shared> shared_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::shared_ptr<Stream> stream_;
};

}  // namespace studio::worker
