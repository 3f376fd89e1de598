#include "controller/api/controller_service.h"

#include <memory>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status/grpc_status.h"
#include "controller/api/authorize.h"

namespace studio::controller {
namespace {

// A call under way. Counted until its answer has been given.
struct Call {
  grpc::ServerUnaryReactor* reactor;
  Caller caller;
  std::shared_ptr<const CallCount::Place> place;
};

// Ends a unary call with what the loop answered.
template <typename Response>
std::function<void(absl::StatusOr<Response>)> Answer(const Call& call, Response* response) {
  return [call, response](absl::StatusOr<Response> result) {
    const absl::Status status = result.status();
    if (status.ok()) *response = *std::move(result);
    call.reactor->Finish(ToGrpc(status));
  };
}

// Runs `body` on the executor if the caller may do it and there is room. gRPC keeps request and response until Finish.
template <typename Body>
grpc::ServerUnaryReactor* Unary(grpc::CallbackServerContext* context, Executor& executor, CallCount& calls,
                                const std::string& action, const std::string& resource, Body body) {
  Call call{context->DefaultReactor(), Identify(*context), nullptr};
  absl::Status status = Authorize(call.caller, action, resource);
  if (status.ok()) {
    absl::StatusOr<std::shared_ptr<const CallCount::Place>> place = calls.Enter();
    status = place.status();
    if (status.ok()) call.place = *std::move(place);
  }
  if (status.ok()) {
    executor.Post([body = std::move(body), call] { body(call); });
  } else {
    call.reactor->Finish(ToGrpc(status));
  }
  return call.reactor;
}

}  // namespace

grpc::ServerUnaryReactor* ControllerService::SubmitJob(grpc::CallbackServerContext* context,
                                                       const v1::SubmitJobRequest* request,
                                                       v1::SubmitJobResponse* response) {
  return Unary(context, options_.executor, calls_, "job.submit", "", [=, this](const Call& call) {
    options_.loop.Submit(call.caller.owner, *request, Answer(call, response));
  });
}

grpc::ServerUnaryReactor* ControllerService::GetJob(grpc::CallbackServerContext* context,
                                                    const v1::GetJobRequest* request, v1::JobRecord* response) {
  return Unary(context, options_.executor, calls_, "job.get", request->id(),
               [=, this](const Call& call) { options_.loop.Find(request->id(), Answer(call, response)); });
}

grpc::ServerUnaryReactor* ControllerService::ListJobs(grpc::CallbackServerContext* context,
                                                      const v1::ListJobsRequest* request,
                                                      v1::ListJobsResponse* response) {
  return Unary(context, options_.executor, calls_, "job.list", "",
               [=, this](const Call& call) { Answer(call, response)(options_.loop.List(*request)); });
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* ControllerService::WatchJob(grpc::CallbackServerContext* context,
                                                                            const v1::WatchJobRequest* request) {
  return WatchStream::Start(Context(), *context, *request, Authorize(Identify(*context), "job.watch", request->id()));
}

grpc::ServerUnaryReactor* ControllerService::CancelJob(grpc::CallbackServerContext* context,
                                                       const v1::CancelJobRequest* request, v1::JobRecord* response) {
  return Unary(context, options_.executor, calls_, "job.cancel", request->id(),
               [=, this](const Call& call) { options_.loop.Cancel(request->id(), Answer(call, response)); });
}

grpc::ServerUnaryReactor* ControllerService::RetryJob(grpc::CallbackServerContext* context,
                                                      const v1::RetryJobRequest* request,
                                                      v1::SubmitJobResponse* response) {
  return Unary(context, options_.executor, calls_, "job.retry", request->id(), [=, this](const Call& call) {
    options_.loop.Retry(call.caller.owner, *request, Answer(call, response));
  });
}

grpc::ServerWriteReactor<v1::LogLines>* ControllerService::ReadLogs(grpc::CallbackServerContext* context,
                                                                    const v1::ReadLogsRequest* request) {
  return LogStream::Start(Context(), *context, *request, Authorize(Identify(*context), "job.logs", request->id()));
}

grpc::ServerUnaryReactor* ControllerService::ListWorkers(grpc::CallbackServerContext* context,
                                                         const v1::ListWorkersRequest* request,
                                                         v1::ListWorkersResponse* response) {
  return Unary(context, options_.executor, calls_, "worker.list", "",
               [=, this](const Call& call) { Answer(call, response)(options_.loop.Workers()); });
}

grpc::ServerUnaryReactor* ControllerService::ConfirmWorkerDead(grpc::CallbackServerContext* context,
                                                               const v1::ConfirmWorkerDeadRequest* request,
                                                               v1::WorkerRecord* response) {
  return Unary(context, options_.executor, calls_, "worker.confirm-dead", request->id(), [=, this](const Call& call) {
    options_.loop.ConfirmDead(call.caller.owner, request->id(), Answer(call, response));
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
  return Unary(context, options_.executor, calls_, "controller.backup", "", [=, this](const Call& call) {
    backups_.Post([=, this] {
      const std::string name = !request->name().empty()
                                   ? request->name()
                                   : absl::FormatTime("%Y%m%dT%H%M%SZ", absl::Now(), absl::UTCTimeZone());
      Answer(call, response)(options_.write_backup(name));
    });
  });
}

}  // namespace studio::controller
