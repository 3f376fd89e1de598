// What people ask for: submit, retry, cancel, get, list, watch.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "common/artifact/uri.h"
#include "common/job/job_rules.h"
#include "common/status/macros.h"
#include "controller/loop/controller_loop.h"
#include "controller/loop/inputs.h"

namespace studio::controller {
namespace {

constexpr size_t kMaxRequestId = 128;
constexpr int kDefaultList = 100;
constexpr int kMaxList = 1000;

google::protobuf::Timestamp ToProto(absl::Time time) {
  google::protobuf::Timestamp proto;
  proto.set_seconds(absl::ToUnixSeconds(time));
  proto.set_nanos(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(proto.seconds())));
  return proto;
}

}  // namespace

std::string ControllerLoop::KeyOf(const std::string& owner, const std::string& request_id) {
  return absl::StrCat(owner, "/", request_id);
}

absl::StatusOr<std::string> ControllerLoop::RequestKey(const std::string& owner, const std::string& request_id) {
  if (request_id.size() > kMaxRequestId) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id has ", request_id.size(), " bytes; at most ", kMaxRequestId, " are accepted"));
  }
  return request_id.empty() ? "" : KeyOf(owner, request_id);
}

bool ControllerLoop::Replay(const std::string& key, Reply<v1::SubmitJobResponse>& reply) {
  const auto found = key.empty() ? requests_.end() : requests_.find(key);
  if (found == requests_.end()) return false;
  // The first answer may still be on its way to the disk.
  jobs_.Barrier([this, id = found->second, reply](absl::Status status) {
    if (!status.ok()) return reply(status);
    Find(id, [reply](absl::StatusOr<v1::JobRecord> record) {
      if (!record.ok()) return reply(record.status());
      v1::SubmitJobResponse response;
      *response.mutable_record() = *std::move(record);
      response.set_existed(true);
      reply(std::move(response));
    });
  });
  return true;
}

absl::Status ControllerLoop::ResolveInputs(v1::JobRecord& record) const {
  std::set<std::string> given;
  for (const v1::Input& input : record.inputs()) given.insert(input.field());
  for (const NamedFile& file : NamedFiles(record.job())) {
    const absl::StatusOr<Uri> uri = ParseUri(file.value);
    if (!uri.ok() || uri->kind != Uri::Kind::kJob || given.count(file.field) > 0) continue;
    ASSIGN_OR_RETURN(const int64_t number, JobNumber(uri->job_id));
    const absl::StatusOr<v1::JobRecord> found = jobs_.Durable(number);
    if (!found.ok()) {
      return absl::Status(found.status().code(),
                          absl::StrCat(file.field, ": ", found.status().message(),
                                       "; of one that was archived the controller keeps no files"));
    }
    const v1::JobRecord& other = *found;
    if (uri->path != "result") {
      return absl::InvalidArgumentError(absl::StrCat(file.field, ": \"", file.value, "\": only a job's result can be ",
                                                     "named, as job:", uri->job_id, "/result"));
    }
    if (other.state() != v1::SUCCEEDED || other.result().files().empty()) {
      return absl::FailedPreconditionError(absl::StrCat(file.field, ": job ", uri->job_id, " is ",
                                                        v1::JobState_Name(other.state()), " and has no result"));
    }
    v1::Input& input = *record.add_inputs();
    input.set_field(file.field);
    *input.mutable_artifact() = other.result();
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::JobRecord> ControllerLoop::NewRecord(const std::string& owner, v1::SubmitJobRequest request) const {
  RETURN_IF_ERROR(Validate(request.job()));
  v1::JobRecord record;
  // Filled in now: a later version's defaults change no job that was accepted before.
  *record.mutable_job() = WithDefaults(std::move(*request.mutable_job()));
  *record.mutable_inputs() = std::move(*request.mutable_inputs());
  RETURN_IF_ERROR(ResolveInputs(record));
  RETURN_IF_ERROR(CheckInputs(record.job(), {record.inputs().begin(), record.inputs().end()}));
  for (const v1::Input& input : record.inputs()) {
    const absl::Status there = CheckBlobs(input.artifact());
    if (!there.ok()) return absl::Status(there.code(), absl::StrCat(input.field(), ": ", there.message()));
  }
  record.set_owner(owner);
  record.set_request_id(request.request_id());
  return record;
}

void ControllerLoop::AddJob(v1::JobRecord record, const std::string& key, Reply<v1::SubmitJobResponse> reply) {
  const int64_t number = ++last_job_;
  record.set_id(JobId(number));
  record.set_state(v1::PENDING);
  *record.mutable_submit_time() = ToProto(options_.now());
  Batch batch;
  batch.last_job = number;
  if (!key.empty()) {
    batch.requests.emplace_back(key, record.id());
    requests_[key] = record.id();
  }
  v1::SubmitJobResponse response;
  *response.mutable_record() = record;
  response.mutable_record()->set_revision(1);
  jobs_.Add(std::move(record), std::move(batch), [reply, response = std::move(response)](absl::Status status) {
    if (!status.ok()) return reply(status);
    reply(response);
  });
  // Not after the answer: the assignment may share the submit's fsync.
  RequestPlan();
}

void ControllerLoop::Submit(const std::string& owner, v1::SubmitJobRequest request,
                            Reply<v1::SubmitJobResponse> reply) {
  const absl::StatusOr<std::string> key = RequestKey(owner, request.request_id());
  if (!key.ok()) return reply(key.status());
  if (Replay(*key, reply)) return;
  absl::StatusOr<v1::JobRecord> record = NewRecord(owner, std::move(request));
  if (!record.ok()) return reply(record.status());
  AddJob(*std::move(record), *key, std::move(reply));
}

void ControllerLoop::Retry(const std::string& owner, const v1::RetryJobRequest& request,
                           Reply<v1::SubmitJobResponse> reply) {
  const absl::StatusOr<std::string> key = RequestKey(owner, request.request_id());
  if (!key.ok()) return reply(key.status());
  if (Replay(*key, reply)) return;
  const absl::StatusOr<v1::JobRecord> parent = Get(request.id());
  if (!parent.ok()) {
    return Find(request.id(), [reply](const absl::StatusOr<v1::JobRecord>& archived) {
      if (!archived.ok()) return reply(archived.status());
      reply(absl::FailedPreconditionError(
          absl::StrCat("job ", archived->id(), " was archived and its files are no longer kept; submit it anew")));
    });
  }
  if (!IsTerminal(parent->state())) {
    return reply(
        absl::FailedPreconditionError(absl::StrCat("job ", parent->id(), " is ", v1::JobState_Name(parent->state()),
                                                   " and goes on by itself; cancel it first to start it anew")));
  }
  v1::JobRecord record;
  *record.mutable_job() = parent->job();
  *record.mutable_inputs() = parent->inputs();
  if (parent->has_checkpoint()) *record.mutable_checkpoint() = parent->checkpoint();
  record.set_parent_id(parent->id());
  record.set_owner(owner);
  record.set_request_id(request.request_id());
  AddJob(std::move(record), *key, std::move(reply));
}

void ControllerLoop::Cancel(const std::string& id, Reply<v1::JobRecord> reply) {
  const absl::StatusOr<int64_t> number = JobNumber(id);
  // One that is archived has ended, and stays as it is.
  if (!number.ok() || jobs_.Decided(*number) == nullptr) return Find(id, std::move(reply));
  const absl::Status status =
      jobs_.Change(*number, CancelRequested{options_.now()}, {}, [this, number = *number, reply](absl::Status stored) {
        if (!stored.ok()) return reply(stored);
        // It had ended, and was archived meanwhile.
        if (jobs_.Decided(number) == nullptr) return Find(JobId(number), reply);
        const v1::JobRecord& record = *jobs_.Decided(number);
        if (const v1::Attempt* attempt = LiveAttempt(record)) {
          const std::string& worker_id = attempt->ranks(0).worker_id();
          Do(worker_id, WorkerOf(worker_id).session->Stop(StopFor(record)));
        }
        RequestPlan();
        reply(jobs_.Durable(number));
      });
  if (!status.ok()) reply(status);
}

absl::StatusOr<v1::JobRecord> ControllerLoop::Get(const std::string& id) const {
  ASSIGN_OR_RETURN(const int64_t number, JobNumber(id));
  return jobs_.Durable(number);
}

void ControllerLoop::Find(const std::string& id, Reply<v1::JobRecord> reply) {
  const absl::StatusOr<int64_t> number = JobNumber(id);
  if (!number.ok()) return reply(number.status());
  if (*number > last_job_ || jobs_.Decided(*number) != nullptr) return reply(jobs_.Durable(*number));
  store_.FindArchived(*number, [this, reply = std::move(reply)](absl::StatusOr<v1::JobRecord> record) {
    options_.post([reply, record = std::move(record)] { reply(record); });
  });
}

absl::StatusOr<v1::ListJobsResponse> ControllerLoop::List(const v1::ListJobsRequest& request) const {
  if (request.limit() < 0 || request.limit() > kMaxList) {
    return absl::InvalidArgumentError(absl::StrCat("limit is ", request.limit(), "; at most ", kMaxList));
  }
  int64_t before = 0;
  if (!request.before_id().empty()) {
    ASSIGN_OR_RETURN(before, JobNumber(request.before_id()));
  }
  std::set<v1::JobState> states;
  for (const int state : request.states()) states.insert(static_cast<v1::JobState>(state));
  const size_t limit = request.limit() == 0 ? kDefaultList : request.limit();
  std::vector<int64_t> numbers = jobs_.List(states, before, limit + 1);
  v1::ListJobsResponse response;
  response.set_more(numbers.size() > limit);
  numbers.resize(std::min(numbers.size(), limit));
  for (const int64_t number : numbers) {
    ASSIGN_OR_RETURN(*response.add_records(), jobs_.Durable(number));
  }
  return response;
}

absl::StatusOr<int64_t> ControllerLoop::Watch(const std::string& id, int64_t after_revision,
                                              JobTable::Watcher watcher) {
  ASSIGN_OR_RETURN(const int64_t number, JobNumber(id));
  return jobs_.Watch(number, after_revision, std::move(watcher));
}

absl::StatusOr<int64_t> ControllerLoop::WatchLogs(const std::string& id, std::function<void(LogState)> watcher) {
  ASSIGN_OR_RETURN(const int64_t number, JobNumber(id));
  const int64_t watch = next_log_watch_++;
  auto notify = [this, number, watcher](const v1::JobRecord& record) {
    const LogState state{record.attempts_size(), IsTerminal(record.state())};
    // In the queue of the logs, behind every chunk that came before.
    options_.post_logs([watcher, state] { watcher(state); });
  };
  ASSIGN_OR_RETURN(const int64_t job_watch,
                   jobs_.Watch(number, -1, [notify](const v1::JobRecord& record, const auto&) { notify(record); }));
  log_watches_[watch] = {number, job_watch, [this, number, notify] {
                           const absl::StatusOr<v1::JobRecord> record = jobs_.Durable(number);
                           if (record.ok()) notify(*record);
                         }};
  return watch;
}

void ControllerLoop::UnwatchLogs(int64_t watch) {
  const auto found = log_watches_.find(watch);
  if (found == log_watches_.end()) return;
  jobs_.Unwatch(found->second.job_watch);
  log_watches_.erase(found);
}

}  // namespace studio::controller
