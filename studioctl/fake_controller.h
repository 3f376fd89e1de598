// The Controller service in memory, as controller.proto documents it, on a real gRPC server, with a real content store
// and hooks for what goes wrong in life. For tests.
//
//   FakeController controller(folder.Path("controller"));
//   controller.LoseAnswers(1);                      // the next submit is stored, its answer is not heard
//   controller.Change("j1", [](v1::JobRecord& record) { record.set_state(v1::SUCCEEDED); });
//   controller.Stop(); controller.Start();          // the same port, the same jobs
//
// Thread-safe.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "common/artifact/content_store.h"
#include "common/artifact/transfer_service.h"
#include "proto/studio/v1/controller.grpc.pb.h"

namespace studio::ctl {

class FakeController final : public v1::Controller::Service {
 public:
  explicit FakeController(const std::string& folder, ContentStore::Options options = {});
  ~FakeController() override { Stop(); }

  void Start();
  void Stop();
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  ContentStore& store() { return *store_; }

  // Before Start: the versions that it says it speaks.
  void SpeakProtocol(int min, int max) {
    min_protocol_ = min;
    max_protocol_ = max;
  }
  void LoseAnswers(int count);
  void Change(const std::string& id, const std::function<void(v1::JobRecord&)>& change,
              std::vector<v1::Progress> points = {});
  void WaitForWatchers(int count);
  std::vector<v1::JobRecord> Jobs();
  v1::WorkerRecord& AddWorker();
  // Of attempt 1, rank 0. The stream ends once the job is terminal, or at once without follow.
  void AppendLog(const std::string& id, const std::string& text);
  // The next log stream breaks after this many bytes.
  void BreakLogsAfter(int bytes, grpc::StatusCode code = grpc::StatusCode::UNAVAILABLE);

  grpc::Status SubmitJob(grpc::ServerContext*, const v1::SubmitJobRequest*, v1::SubmitJobResponse*) override;
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest*, v1::JobRecord*) override;
  grpc::Status ListJobs(grpc::ServerContext*, const v1::ListJobsRequest*, v1::ListJobsResponse*) override;
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest*,
                        grpc::ServerWriter<v1::WatchJobResponse>*) override;
  grpc::Status CancelJob(grpc::ServerContext*, const v1::CancelJobRequest*, v1::JobRecord*) override;
  grpc::Status RetryJob(grpc::ServerContext*, const v1::RetryJobRequest*, v1::SubmitJobResponse*) override;
  grpc::Status ReadLogs(grpc::ServerContext*, const v1::ReadLogsRequest*, grpc::ServerWriter<v1::LogLines>*) override;
  grpc::Status ListWorkers(grpc::ServerContext*, const v1::ListWorkersRequest*, v1::ListWorkersResponse*) override;
  grpc::Status ConfirmWorkerDead(grpc::ServerContext*, const v1::ConfirmWorkerDeadRequest*, v1::WorkerRecord*) override;
  grpc::Status GetVersion(grpc::ServerContext*, const v1::GetVersionRequest*, v1::GetVersionResponse*) override;

 private:
  grpc::Status Store(const std::string& request_id, v1::JobRecord record, v1::SubmitJobResponse& response);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  int port_ = 0;
  int min_protocol_ = 1, max_protocol_ = 1;
  int lose_answers_ = 0;
  int watchers_ = 0;
  int break_logs_after_ = -1;
  grpc::StatusCode break_logs_with_ = grpc::StatusCode::OK;
  std::map<int, v1::JobRecord> jobs_;
  std::map<std::string, std::vector<v1::Progress>> points_;
  std::map<std::string, std::string> logs_;
  std::vector<v1::WorkerRecord> workers_;
  std::unique_ptr<ContentStore> store_;
  std::unique_ptr<TransferService> transfers_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace studio::ctl
