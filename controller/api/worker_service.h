// The workers' side of the API: hands each stream's messages to the loop and writes what it answers.
//
// A message is read once the loop has taken the one before it: a worker that says more than the controller can take is
// slowed down by its own stream. gRPC calls from any thread; executor and loop outlive the service, and it its server.
#pragma once

#include "controller/loop/controller_loop.h"
#include "controller/loop/executor.h"
#include "proto/studio/v1/worker.grpc.pb.h"

namespace studio::controller {

class WorkerService final : public v1::WorkerService::CallbackService {
 public:
  WorkerService(Executor& executor, ControllerLoop& loop) : executor_(executor), loop_(loop) {}

  grpc::ServerBidiReactor<v1::WorkerUp, v1::WorkerDown>* Session(grpc::CallbackServerContext* context) override;

 private:
  Executor& executor_;
  ControllerLoop& loop_;
};

}  // namespace studio::controller
