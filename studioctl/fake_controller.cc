#include "studioctl/fake_controller.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/job/job_rules.h"
#include "common/status/check.h"
#include "common/status/grpc_status.h"
#include "studioctl/exit_codes.h"

namespace studio::ctl {
namespace {

int NumberOf(const std::string& id) { return id.size() > 1 && id.size() < 8 ? std::atoi(id.c_str() + 1) : 0; }

grpc::Status NotFound(const std::string& id) {
  return grpc::Status(grpc::StatusCode::NOT_FOUND, absl::StrCat("there is no job ", id));
}

}  // namespace

FakeController::FakeController(const std::string& folder, ContentStore::Options options) {
  auto store = ContentStore::Open(folder, options);
  STUDIO_CHECK(store.ok()) << store.status();
  store_ = *std::move(store);
  Start();
}

void FakeController::Start() {
  stopping_ = false;
  transfers_ = std::make_unique<TransferService>(*store_, TransferService::Options{});
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port_), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(this);
  builder.RegisterService(transfers_.get());
  server_ = builder.BuildAndStart();
  STUDIO_CHECK(server_ != nullptr);
}

void FakeController::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (server_ != nullptr) server_->Shutdown();
  server_.reset();
  transfers_.reset();
}

void FakeController::LoseAnswers(int count) {
  std::lock_guard<std::mutex> lock(mutex_);
  lose_answers_ = count;
}

void FakeController::Change(const std::string& id, const std::function<void(v1::JobRecord&)>& change,
                            std::vector<v1::Progress> points) {
  std::lock_guard<std::mutex> lock(mutex_);
  v1::JobRecord& record = jobs_.at(NumberOf(id));
  change(record);
  for (v1::Progress& point : points) points_[id].push_back(std::move(point));
  record.set_revision(record.revision() + 1);
  changed_.notify_all();
}

void FakeController::WaitForWatchers(int count) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return watchers_ >= count; });
}

std::vector<v1::JobRecord> FakeController::Jobs() {
  std::lock_guard<std::mutex> lock(mutex_);
  std::vector<v1::JobRecord> records;
  for (const auto& [number, record] : jobs_) records.push_back(record);
  return records;
}

v1::WorkerRecord& FakeController::AddWorker() { return workers_.emplace_back(); }

void FakeController::AppendLog(const std::string& id, const std::string& text) {
  std::lock_guard<std::mutex> lock(mutex_);
  logs_[id] += text;
  changed_.notify_all();
}

void FakeController::BreakLogsAfter(int bytes, grpc::StatusCode code) {
  std::lock_guard<std::mutex> lock(mutex_);
  break_logs_after_ = bytes;
  break_logs_with_ = code;
}

grpc::Status FakeController::Store(const std::string& request_id, v1::JobRecord record,
                                   v1::SubmitJobResponse& response) {
  for (const auto& [number, existing] : jobs_) {
    if (existing.request_id() != request_id) continue;
    *response.mutable_record() = existing;
    response.set_existed(true);
    return grpc::Status::OK;
  }
  const int number = static_cast<int>(jobs_.size()) + 1;
  record.set_id(absl::StrCat("j", number));
  record.set_request_id(request_id);
  record.set_owner("local");
  record.set_state(v1::PENDING);
  record.set_revision(1);
  record.mutable_submit_time()->set_seconds(absl::ToUnixSeconds(absl::Now()));
  jobs_[number] = record;
  *response.mutable_record() = record;
  if (lose_answers_ > 0) {
    --lose_answers_;
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the connection broke");
  }
  return grpc::Status::OK;
}

grpc::Status FakeController::SubmitJob(grpc::ServerContext*, const v1::SubmitJobRequest* request,
                                       v1::SubmitJobResponse* response) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (const absl::Status valid = Validate(request->job()); !valid.ok()) return ToGrpc(valid);
  v1::JobRecord record;
  *record.mutable_job() = request->job();
  *record.mutable_inputs() = request->inputs();
  for (const v1::Input& input : request->inputs()) {
    for (const v1::FileRef& file : input.artifact().files()) {
      if (store_->Has(file.sha256())) continue;
      return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, absl::StrCat(file.path(), " was not uploaded"));
    }
  }
  return Store(request->request_id(), record, *response);
}

grpc::Status FakeController::GetJob(grpc::ServerContext*, const v1::GetJobRequest* request, v1::JobRecord* response) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = jobs_.find(NumberOf(request->id()));
  if (found == jobs_.end()) return NotFound(request->id());
  *response = found->second;
  return grpc::Status::OK;
}

grpc::Status FakeController::ListJobs(grpc::ServerContext*, const v1::ListJobsRequest* request,
                                      v1::ListJobsResponse* response) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int limit = request->limit() == 0 ? 100 : request->limit();
  for (auto it = jobs_.rbegin(); it != jobs_.rend(); ++it) {
    if (!request->before_id().empty() && it->first >= NumberOf(request->before_id())) continue;
    bool wanted = request->states().empty();
    for (const int state : request->states()) wanted |= state == it->second.state();
    if (!wanted) continue;
    if (response->records_size() == limit) {
      response->set_more(true);
      break;
    }
    *response->add_records() = it->second;
  }
  return grpc::Status::OK;
}

grpc::Status FakeController::WatchJob(grpc::ServerContext*, const v1::WatchJobRequest* request,
                                      grpc::ServerWriter<v1::WatchJobResponse>* writer) {
  std::unique_lock<std::mutex> lock(mutex_);
  const int number = NumberOf(request->id());
  if (jobs_.count(number) == 0) return NotFound(request->id());
  ++watchers_;
  changed_.notify_all();
  int64_t revision = request->after_revision();
  size_t points = 0;
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || jobs_[number].revision() > revision; });
    if (stopping_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the controller stops");
    v1::WatchJobResponse response;
    *response.mutable_record() = jobs_[number];
    for (const std::vector<v1::Progress>& all = points_[request->id()]; points < all.size(); ++points) {
      *response.add_points() = all[points];
    }
    revision = response.record().revision();
    writer->Write(response);
    if (IsTerminal(response.record().state())) return grpc::Status::OK;
  }
}

grpc::Status FakeController::CancelJob(grpc::ServerContext*, const v1::CancelJobRequest* request,
                                       v1::JobRecord* response) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = jobs_.find(NumberOf(request->id()));
  if (found == jobs_.end()) return NotFound(request->id());
  if (!IsTerminal(found->second.state())) found->second.set_state(v1::CANCELLED);
  *response = found->second;
  return grpc::Status::OK;
}

grpc::Status FakeController::RetryJob(grpc::ServerContext*, const v1::RetryJobRequest* request,
                                      v1::SubmitJobResponse* response) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto found = jobs_.find(NumberOf(request->id()));
  if (found == jobs_.end()) return NotFound(request->id());
  v1::JobRecord record;
  *record.mutable_job() = found->second.job();
  *record.mutable_checkpoint() = found->second.checkpoint();
  record.set_parent_id(request->id());
  return Store(request->request_id(), record, *response);
}

grpc::Status FakeController::ReadLogs(grpc::ServerContext*, const v1::ReadLogsRequest* request,
                                      grpc::ServerWriter<v1::LogLines>* writer) {
  std::unique_lock<std::mutex> lock(mutex_);
  const int number = NumberOf(request->id());
  if (jobs_.count(number) == 0) return NotFound(request->id());
  size_t offset = request->offset();
  const std::string& log = logs_[request->id()];
  while (true) {
    if (break_logs_after_ >= 0) {
      v1::LogLines lines;
      lines.set_offset(static_cast<int64_t>(offset));
      lines.set_data(log.substr(offset, std::exchange(break_logs_after_, -1)));
      lines.set_attempt(1);
      writer->Write(lines);
      return grpc::Status(break_logs_with_, "the connection broke");
    }
    if (offset < log.size()) {
      v1::LogLines lines;
      lines.set_offset(static_cast<int64_t>(offset));
      lines.set_data(log.substr(offset));
      lines.set_attempt(1);
      writer->Write(lines);
      offset = log.size();
    }
    if (!request->follow() || IsTerminal(jobs_[number].state())) return grpc::Status::OK;
    changed_.wait(lock, [&] { return stopping_ || offset < log.size() || IsTerminal(jobs_[number].state()); });
    if (stopping_) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the controller stops");
  }
}

grpc::Status FakeController::ListWorkers(grpc::ServerContext*, const v1::ListWorkersRequest*,
                                         v1::ListWorkersResponse* response) {
  for (const v1::WorkerRecord& worker : workers_) *response->add_workers() = worker;
  return grpc::Status::OK;
}

grpc::Status FakeController::ConfirmWorkerDead(grpc::ServerContext*, const v1::ConfirmWorkerDeadRequest* request,
                                               v1::WorkerRecord* response) {
  for (const v1::WorkerRecord& worker : workers_) {
    if (worker.id() != request->id()) continue;
    if (worker.connected()) return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "worker is in contact");
    *response = worker;
    return grpc::Status::OK;
  }
  return grpc::Status(grpc::StatusCode::NOT_FOUND, "no worker \"" + request->id() + "\"");
}

grpc::Status FakeController::GetVersion(grpc::ServerContext*, const v1::GetVersionRequest*,
                                        v1::GetVersionResponse* response) {
  response->set_version("0.1.0");
  response->set_min_protocol(min_protocol_);
  response->set_max_protocol(max_protocol_);
  response->set_transfer_address(absl::StrCat(":", port_));
  response->set_max_blob_bytes(store_->max_blob_bytes());
  return grpc::Status::OK;
}

}  // namespace studio::ctl
