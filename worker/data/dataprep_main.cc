// studio-dataprep: makes the token shards of a job, once per node, before its ranks start.
//
//   studio-dataprep --task task.pb.txt                 (from the agent; events over STUDIO_AGENT_FD)
//   studio-dataprep --job job.pb.txt --data-dir DIR    (by hand; prints the report)
//
// Exit codes: 0 prepared, 2 usage, 65 the job or its files cannot be right, 70 anything else, 72 out of memory.
#include <fcntl.h>
#include <google/protobuf/text_format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <new>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/job/job_rules.h"
#include "common/job/job_text.h"
#include "common/status/macros.h"
#include "worker/data/agent_channel.h"
#include "worker/data/file_io.h"
#include "worker/data/prepare.h"

namespace studio {
namespace {

constexpr int64_t kMaxTaskBytes = 16 << 20;

struct Options {
  std::string task_file;
  std::string job_file;
  std::string data_dir;
};

v1::Reason ReasonOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
      return v1::BAD_INPUT;
    case absl::StatusCode::kResourceExhausted:
      return v1::STORAGE;
    default:
      return v1::CRASH;
  }
}

// STUDIO_AGENT_FD, or -1 without an agent.
absl::StatusOr<int> AgentDescriptor() {
  const char* text = std::getenv("STUDIO_AGENT_FD");
  if (text == nullptr) return -1;
  int fd;
  if (!absl::SimpleAtoi(text, &fd) || fcntl(fd, F_GETFD) < 0) {
    return absl::InvalidArgumentError(absl::StrCat("STUDIO_AGENT_FD is ", text, ", which is no open descriptor"));
  }
  return fd;
}

// Paths in a job are relative to its file.
void ResolvePaths(const std::string& job_file, v1::Job* job) {
  const std::filesystem::path folder = std::filesystem::path(job_file).parent_path();
  for (std::string* path :
       {job->mutable_dataset()->mutable_train_dataframe(), job->mutable_dataset()->mutable_validation_dataframe(),
        job->mutable_architecture()->mutable_llm_backbone()}) {
    if (!path->empty()) *path = (folder / *path).string();
  }
}

absl::StatusOr<v1::TrainerTask> ReadTask(const Options& options) {
  v1::TrainerTask task;
  const bool alone = options.task_file.empty();
  const std::string& file = alone ? options.job_file : options.task_file;
  ASSIGN_OR_RETURN(std::string text, dataprep::ReadFile(file, kMaxTaskBytes));
  if (alone) {
    ASSIGN_OR_RETURN(v1::Job job, ParseJobText(text, file));
    RETURN_IF_ERROR(Validate(job));
    ResolvePaths(file, &job);
    *task.mutable_job() = WithDefaults(std::move(job));
    task.set_data_dir(options.data_dir);
  } else if (!google::protobuf::TextFormat::ParseFromString(text, &task)) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": not a TrainerTask in text form"));
  }
  return task;
}

void LogReport(const PreparedData& data, double seconds) {
  const v1::DataReport& report = data.report;
  spdlog::info("{} {}: {} rows, {} + {} examples, {} tokens ({} learnt), {} truncated, {:.2f} s ({:.0f} tokens/s)",
               data.reused ? "found" : "prepared", data.folder, report.rows(), report.train_examples(),
               report.validation_examples(), report.tokens(), report.valid_tokens(), report.truncated(), seconds,
               static_cast<double>(report.tokens()) / seconds);
}

absl::Status Run(const Options& options, AgentChannel* agent) {
  ASSIGN_OR_RETURN(v1::TrainerTask task, ReadTask(options));
  v1::TrainerUp up;
  up.set_state(v1::ATTEMPT_PREPARING);
  RETURN_IF_ERROR(agent->Send(up));

  const auto start = std::chrono::steady_clock::now();
  // A failed send shows as the end of the stream, which EndWithAgent acts upon.
  auto progress = [&](const PrepareProgress& done) {
    v1::TrainerUp event;
    event.mutable_progress()->set_prepared_rows(done.prepared_rows);
    event.mutable_progress()->set_total_rows(done.total_rows);
    agent->Send(event).IgnoreError();
  };
  ASSIGN_OR_RETURN(PreparedData data, Prepare(task.job(), task.data_dir(), progress));
  LogReport(data, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());

  for (const std::string& note : data.report.notes()) {
    v1::TrainerUp event;
    event.set_note(note);
    RETURN_IF_ERROR(agent->Send(event));
  }
  v1::TrainerUp report;
  *report.mutable_data() = data.report;
  RETURN_IF_ERROR(agent->Send(report));
  v1::TrainerUp finished;
  finished.mutable_finished();
  RETURN_IF_ERROR(agent->Send(finished));
  if (options.task_file.empty()) {
    std::string text;
    google::protobuf::TextFormat::PrintToString(data.report, &text);
    std::cout << text << "folder: \"" << data.folder << "\"\n";
  }
  return absl::OkStatus();
}

int Fail(const absl::Status& status, v1::Reason reason, AgentChannel* agent) {
  spdlog::error("{}", std::string(status.message()));
  v1::TrainerUp up;
  up.mutable_failure()->set_reason(reason);
  up.mutable_failure()->set_message(std::string(status.message()));
  agent->Send(up).IgnoreError();
  return reason == v1::BAD_INPUT ? 65 : reason == v1::HOST_OOM ? 72 : 70;
}

int Main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("dataprep"));
  Options options;
  CLI::App app("Makes the token shards of a job.");
  auto* task = app.add_option("--task", options.task_file, "a TrainerTask in text form, from the agent");
  auto* job = app.add_option("--job", options.job_file, "a job.pb.txt")->excludes(task);
  auto* dir = app.add_option("--data-dir", options.data_dir, "where prepared data lies")->excludes(task);
  job->needs(dir);
  try {
    app.parse(argc, argv);
    if (options.task_file.empty() && options.job_file.empty()) throw CLI::RequiredError("--task or --job");
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const absl::StatusOr<int> fd = AgentDescriptor();
  AgentChannel agent(fd.ok() ? *fd : -1);
  if (!fd.ok()) return Fail(fd.status(), v1::CRASH, &agent);
  agent.EndWithAgent();
  try {
    const absl::Status status = Run(options, &agent);
    return status.ok() ? 0 : Fail(status, ReasonOf(status), &agent);
  } catch (const std::bad_alloc&) {
    return Fail(absl::ResourceExhaustedError("data preparation: the host's memory is not enough"), v1::HOST_OOM,
                &agent);
  }
}

}  // namespace
}  // namespace studio

int main(int argc, char** argv) { return studio::Main(argc, argv); }
