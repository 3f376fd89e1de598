// One stream at a time to the controller: messages in, messages out, no decisions. GrpcLink is the real one.
//
//   link.Dial();
//   link.Send(hello);
//
// Callbacks run on the loop and only for the stream of the last Dial. HangUp ends a stream without a callback.
// Threading: belongs to the loop's thread.
#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "proto/studio/v1/worker.pb.h"

namespace studio::worker {

class ControllerLink {
 public:
  struct Callbacks {
    std::function<void(const v1::WorkerDown&)> on_message;
    std::function<void(const absl::Status&)> on_closed;
  };
  using Maker = std::function<std::unique_ptr<ControllerLink>(Callbacks)>;

  virtual ~ControllerLink() = default;
  virtual void Dial() = 0;
  virtual void Send(v1::WorkerUp message) = 0;
  virtual void HangUp() = 0;
};

}  // namespace studio::worker
