// A controller for tests: real gRPC and a real transfer service on loopback, and a script instead of decisions.
//
//   FakeController controller(folder);
//   controller.Start();
//   … a worker dials 127.0.0.1:controller.port() …
//   controller.Send(assign);
//   v1::WorkerUp up = controller.Await([](const v1::WorkerUp& m) { return m.has_checkpoint(); });
//
// It welcomes every Hello, renews leases and acknowledges what it is told, unless it is told not to.
// Thread-safe. Everything that was received is kept, over streams and restarts.
#pragma once

#include <grpcpp/server.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/artifact/content_store.h"
#include "common/artifact/transfer_service.h"
#include "proto/studio/v1/worker.grpc.pb.h"

namespace studio::worker {

class FakeController {
 public:
  // `folder` holds its content store.
  explicit FakeController(const std::string& folder);
  ~FakeController();

  // Again after Stop: on the same port.
  void Start();
  // As a controller that is killed: streams break.
  void Stop();
  int port() const { return port_; }

  void SetAcknowledging(bool on);
  // What its Welcome says from now on.
  void SetProtocol(int protocol);
  // Gets the next sequence of the stream. Waits for one.
  void Send(v1::WorkerDown message);

  // The first message, ever or after the `skip` first, that is wanted. Fails the test and returns an empty one where
  // none comes for 30 seconds.
  v1::WorkerUp Await(const std::function<bool(const v1::WorkerUp&)>& wanted, size_t skip = 0);
  v1::AttemptEvent AwaitState(v1::AttemptState state, int32_t attempt = 1);
  std::vector<v1::WorkerUp> received();

  ContentStore& store() { return *store_; }

 private:
  class Service;

  void OnStream(grpc::ServerReaderWriter<v1::WorkerDown, v1::WorkerUp>& stream);

  const std::unique_ptr<ContentStore> store_;
  std::unique_ptr<TransferService> transfer_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<v1::WorkerUp> received_;
  grpc::ServerReaderWriter<v1::WorkerDown, v1::WorkerUp>* stream_ = nullptr;
  int64_t sequence_ = 0;
  bool acknowledging_ = true;
  int protocol_ = 1;
};

}  // namespace studio::worker
