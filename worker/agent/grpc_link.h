// One gRPC stream at a time to the controller, seen from the event loop: messages in, messages out, no decisions.
//
//   GrpcLink link(loop, "127.0.0.1:7070", {.on_message = …, .on_closed = …});
//   link.Dial();
//   link.Send(hello);
//
// Callbacks run on the loop and only for the stream of the last Dial. HangUp ends a stream without a callback.
// Threading: belongs to the loop's thread; gRPC's own threads only post to it. The loop must outlive it.
#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "proto/studio/v1/worker.grpc.pb.h"
#include "worker/agent/event_loop.h"

namespace studio::worker {

class GrpcLink {
 public:
  struct Callbacks {
    std::function<void(const v1::WorkerDown&)> on_message;
    std::function<void(const absl::Status&)> on_closed;
  };

  GrpcLink(EventLoop& loop, const std::string& address, Callbacks callbacks);
  // Waits until gRPC has let go of every stream.
  ~GrpcLink();

  void Dial();
  void Send(v1::WorkerUp message);
  void HangUp();

 private:
  class Stream;
  struct Shared;

  std::shared_ptr<Shared> shared_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::shared_ptr<Stream> stream_;
};

}  // namespace studio::worker
