#include "controller/api/controller_service.h"

#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status/grpc_status.h"
#include "controller/api/authorize.h"

namespace studio::controller {
namespace {

// Ends a unary call with what the loop answered.
template <typename Response>
std::function<void(absl::StatusOr<Response>)> Answer(grpc::ServerUnaryReactor* reactor, Response* response) {
  return [reactor, response](absl::StatusOr<Response> result) {
    const absl::Status status = result.status();
    if (status.ok()) *response = *std::move(result);
    reactor->Finish(ToGrpc(status));
  };
}

// Runs `call` on the executor if the caller may do it. gRPC keeps request and response until Finish.
template <typename Call>
grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, Executor& executor, const std::string& action,
                                const std::string& resource, Call call) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Caller caller = Identify(*context);
  if (const absl::Status allowed = Authorize(caller, action, resource); !allowed.ok()) {
    reactor->Finish(ToGrpc(allowed));
    return reactor;
  }
  executor.Post([call = std::move(call), reactor, caller] { call(reactor, caller); });
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* ControllerService::SubmitJob(grpc::CallbackServerContext* context,
                                                       const v1::SubmitJobRequest* request,
                                                       v1::SubmitJobResponse* response) {
  return Unary(context, options_.executor, "job.submit", "", [=, this](auto* reactor, const Caller& caller) {
    options_.loop.Submit(caller.owner, *request, Answer(reactor, response));
  });
}

grpc::ServerUnaryReactor* ControllerService::GetJob(grpc::CallbackServerContext* context,
                                                    const v1::GetJobRequest* request, v1::JobRecord* response) {
  return Unary(context, options_.executor, "job.get", request->id(), [=, this](auto* reactor, const Caller&) {
    options_.loop.Find(request->id(), Answer(reactor, response));
  });
}

grpc::ServerUnaryReactor* ControllerService::ListJobs(grpc::CallbackServerContext* context,
                                                      const v1::ListJobsRequest* request,
                                                      v1::ListJobsResponse* response) {
  return Unary(context, options_.executor, "job.list", "",
               [=, this](auto* reactor, const Caller&) { Answer(reactor, response)(options_.loop.List(*request)); });
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* ControllerService::WatchJob(grpc::CallbackServerContext* context,
                                                                            const v1::WatchJobRequest* request) {
  return WatchStream::Start(Context(), *request, Authorize(Identify(*context), "job.watch", request->id()));
}

grpc::ServerUnaryReactor* ControllerService::CancelJob(grpc::CallbackServerContext* context,
                                                       const v1::CancelJobRequest* request, v1::JobRecord* response) {
  return Unary(context, options_.executor, "job.cancel", request->id(), [=, this](auto* reactor, const Caller&) {
    options_.loop.Cancel(request->id(), Answer(reactor, response));
  });
}

grpc::ServerUnaryReactor* ControllerService::RetryJob(grpc::CallbackServerContext* context,
                                                      const v1::RetryJobRequest* request,
                                                      v1::SubmitJobResponse* response) {
  return Unary(context, options_.executor, "job.retry", request->id(), [=, this](auto* reactor, const Caller& caller) {
    options_.loop.Retry(caller.owner, *request, Answer(reactor, response));
  });
}

grpc::ServerWriteReactor<v1::LogLines>* ControllerService::ReadLogs(grpc::CallbackServerContext* context,
                                                                    const v1::ReadLogsRequest* request) {
  return LogStream::Start(Context(), *request, Authorize(Identify(*context), "job.logs", request->id()));
}

grpc::ServerUnaryReactor* ControllerService::ListWorkers(grpc::CallbackServerContext* context,
                                                         const v1::ListWorkersRequest* request,
                                                         v1::ListWorkersResponse* response) {
  return Unary(context, options_.executor, "worker.list", "",
               [=, this](auto* reactor, const Caller&) { Answer(reactor, response)(options_.loop.Workers()); });
}

grpc::ServerUnaryReactor* ControllerService::ConfirmWorkerDead(grpc::CallbackServerContext* context,
                                                               const v1::ConfirmWorkerDeadRequest* request,
                                                               v1::WorkerRecord* response) {
  return Unary(context, options_.executor, "worker.confirm-dead", request->id(),
               [=, this](auto* reactor, const Caller& caller) {
                 options_.loop.ConfirmDead(caller.owner, request->id(), Answer(reactor, response));
               });
}

grpc::ServerUnaryReactor* ControllerService::GetVersion(grpc::CallbackServerContext* context,
                                                        const v1::GetVersionRequest* request,
                                                        v1::GetVersionResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status allowed = Authorize(Identify(*context), "version.get", "");
  if (allowed.ok()) *response = options_.version;
  reactor->Finish(ToGrpc(allowed));
  return reactor;
}

grpc::ServerUnaryReactor* ControllerService::CreateBackup(grpc::CallbackServerContext* context,
                                                          const v1::CreateBackupRequest* request,
                                                          v1::Backup* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (const absl::Status allowed = Authorize(Identify(*context), "controller.backup", ""); !allowed.ok()) {
    reactor->Finish(ToGrpc(allowed));
    return reactor;
  }
  backups_.Post([=, this] {
    const std::string name = !request->name().empty()
                                 ? request->name()
                                 : absl::FormatTime("%Y%m%dT%H%M%SZ", absl::Now(), absl::UTCTimeZone());
    Answer(reactor, response)(options_.write_backup(name));
  });
  return reactor;
}

}  // namespace studio::controller
