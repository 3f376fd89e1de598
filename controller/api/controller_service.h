// The public API over the loop: each method identifies and authorizes its caller, posts to the executor, converts what
// comes back and returns. Nothing is decided here.
//
//   ControllerService service({.executor = executor, .loop = loop, …});
//   grpc::ServerBuilder().RegisterService(&service);
//
// gRPC calls the methods from any thread. Everything in Options outlives the service, and the service its server.
#pragma once

#include <functional>
#include <string>

#include "common/artifact/io_pool.h"
#include "controller/api/call_count.h"
#include "controller/api/streams.h"
#include "controller/logs/attempt_logs.h"
#include "controller/loop/controller_loop.h"
#include "controller/loop/executor.h"
#include "proto/studio/v1/controller.grpc.pb.h"

namespace studio::controller {

class ControllerService final : public v1::Controller::CallbackService {
 public:
  struct Options {
    Executor& executor;
    Executor& log_executor;
    ControllerLoop& loop;
    const AttemptLogs& logs;
    v1::GetVersionResponse version;
    // Blocks; runs on a thread of its own.
    std::function<absl::StatusOr<v1::Backup>(const std::string& name)> write_backup;
    // StreamContext.
    absl::Duration slow_after = absl::Seconds(60);
  };

  explicit ControllerService(Options options) : options_(std::move(options)) {}

  // Ends the watchers and readers of logs there are, as the controller goes away.
  void EndStreams(const absl::Status& why) { open_.EndAll(why); }

  grpc::ServerUnaryReactor* SubmitJob(grpc::CallbackServerContext* context, const v1::SubmitJobRequest* request,
                                      v1::SubmitJobResponse* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context, const v1::GetJobRequest* request,
                                   v1::JobRecord* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context, const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchJobResponse>* WatchJob(grpc::CallbackServerContext* context,
                                                           const v1::WatchJobRequest* request) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context, const v1::CancelJobRequest* request,
                                      v1::JobRecord* response) override;
  grpc::ServerUnaryReactor* RetryJob(grpc::CallbackServerContext* context, const v1::RetryJobRequest* request,
                                     v1::SubmitJobResponse* response) override;
  grpc::ServerWriteReactor<v1::LogLines>* ReadLogs(grpc::CallbackServerContext* context,
                                                   const v1::ReadLogsRequest* request) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context, const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* ConfirmWorkerDead(grpc::CallbackServerContext* context,
                                              const v1::ConfirmWorkerDeadRequest* request,
                                              v1::WorkerRecord* response) override;
  grpc::ServerUnaryReactor* GetVersion(grpc::CallbackServerContext* context, const v1::GetVersionRequest* request,
                                       v1::GetVersionResponse* response) override;
  grpc::ServerUnaryReactor* CreateBackup(grpc::CallbackServerContext* context, const v1::CreateBackupRequest* request,
                                         v1::Backup* response) override;

 private:
  StreamContext Context() {
    return {options_.executor, options_.log_executor, options_.loop, options_.logs, open_, options_.slow_after};
  }

  const Options options_;
  OpenStreams open_;
  CallCount calls_;
  IoPool backups_{1};
};

}  // namespace studio::controller
