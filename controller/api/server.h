// A whole controller in one object: state folder, store, loop, services and their two ports. What main.cc runs and what
// tests start in their own process.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Server::Start({.state_dir = "/var/lib/studio"}));
//   std::cout << "listening on " << server->address();
//   server->Stop();   // answers what is under way, then ends; also the destructor
//
// State folder: controller.db (jobs; store/sqlite_store.h), content/ (blobs; common/artifact/content_store.h),
// logs/ (logs and metric points; logs/attempt_logs.h), backups/ (backup/backup.h). One controller per folder.
//
// Threads: one for decisions (the executor), one for logs, one that writes the store, and gRPC's own.
#pragma once

#include <grpcpp/server.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/artifact/content_store.h"
#include "common/artifact/transfer_service.h"
#include "common/metrics/metrics_server.h"
#include "controller/api/controller_service.h"
#include "controller/api/housekeeper.h"
#include "controller/api/worker_service.h"
#include "controller/logs/attempt_logs.h"
#include "controller/loop/controller_loop.h"
#include "controller/loop/executor.h"
#include "controller/store/sqlite_store.h"

namespace studio::controller {

struct ServerOptions {
  std::string state_dir;
  // Port 0 picks one.
  std::string listen = "127.0.0.1:7070";
  std::string transfer_listen = "127.0.0.1:7071";
  // HOST:PORT of /metrics for Prometheus; empty: none.
  std::string metrics_listen = "127.0.0.1:7072";
  // Listen beyond this machine though there are no credentials yet.
  bool insecure = false;
  SessionOptions session;
  // Of the content store; 0: what the disk holds.
  int64_t max_content_bytes = 0;
  // How long a file stays that jobs named and name no more (LoopOptions).
  absl::Duration keep_superseded = absl::Minutes(10);
  // How long a file stays that was uploaded, or asked for, and that no job names.
  absl::Duration keep_uploads = absl::Hours(24);
  // When jobs that ended go to the archive, and how long after their last line their logs go then (LoopOptions).
  int64_t keep_jobs = 10'000;
  absl::Duration keep_ended = absl::InfiniteDuration();
  absl::Duration keep_logs = absl::Hours(30 * 24);
  // A client that has not taken a message of a stream for so long is dropped when there is another for it.
  absl::Duration slow_after = absl::Seconds(60);
  // Between two looks at what may go.
  absl::Duration housekeeping = absl::Minutes(10);
  // The store failed; the server answers nothing any more and wants to be stopped. From one of its threads.
  std::function<void(absl::Status)> on_failure;
};

class Server {
 public:
  static absl::StatusOr<std::unique_ptr<Server>> Start(ServerOptions options);
  ~Server();

  // host:port as it came to be.
  const std::string& address() const { return address_; }
  const std::string& transfer_address() const { return transfer_address_; }
  // Empty where there is none.
  std::string metrics_address() const { return metrics_ != nullptr ? metrics_->address() : ""; }

  void Stop();

 private:
  explicit Server(ServerOptions options) : options_(std::move(options)) {}
  absl::Status Open();
  absl::Status Load();
  absl::Status Listen();
  std::string Metrics();
  void KeepHouse();

  const ServerOptions options_;
  // In the order of their lives: what is below uses what is above.
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Executor> log_executor_;
  std::unique_ptr<ContentStore> content_;
  std::unique_ptr<SqliteStore> store_;
  std::unique_ptr<AttemptLogs> logs_;
  std::unique_ptr<ControllerLoop> loop_;
  std::unique_ptr<TransferService> transfer_service_;
  std::unique_ptr<ControllerService> controller_service_;
  std::unique_ptr<WorkerService> worker_service_;
  std::unique_ptr<grpc::Server> transfer_server_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<MetricsServer> metrics_;
  std::unique_ptr<Housekeeper> housekeeper_;
  std::string address_;
  std::string transfer_address_;
};

}  // namespace studio::controller
