#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/artifact/file_tree.h"
#include "common/status/macros.h"
#include "common/time/jitter.h"
#include "studioctl/commands.h"
#include "studioctl/follow.h"
#include "studioctl/inputs.h"
#include "studioctl/job_file.h"
#include "studioctl/print.h"
#include "studioctl/text.h"

namespace studio::ctl {
namespace {

struct SubmitFlags {
  std::vector<std::string> files;
  std::vector<std::string> sets;
  std::string request_id;
  bool follow = false;
};

// The largest file first of all: better to hear of it before the others are on their way.
absl::Status CheckSizes(const std::vector<LocalInput>& inputs, int64_t max_blob_bytes) {
  for (const LocalInput& local : inputs) {
    for (const v1::FileRef& file : local.input.artifact().files()) {
      if (max_blob_bytes == 0 || file.size_bytes() <= max_blob_bytes) continue;
      return absl::InvalidArgumentError(
          absl::StrCat(local.input.field(), ": ", local.path, ": ", file.path(), " has ", file.size_bytes(),
                       " bytes, the controller takes files up to ", max_blob_bytes,
                       ": put the folder where workers share it and name it as file:/folder/…"));
    }
  }
  return absl::OkStatus();
}

absl::Status Upload(Connection& connection, const std::vector<LocalInput>& inputs) {
  if (inputs.empty()) return absl::OkStatus();
  Console& console = connection.console();
  ASSIGN_OR_RETURN(const v1::GetVersionResponse version, connection.Version());
  RETURN_IF_ERROR(CheckSizes(inputs, version.max_blob_bytes()));
  ASSIGN_OR_RETURN(const std::unique_ptr<TransferClient> transfers, connection.Transfers(version));
  for (const LocalInput& local : inputs) {
    bool drawn = false;
    const absl::Status status = transfers->Upload(local.path, local.input.artifact(), [&](int64_t done, int64_t total) {
      if (!console.is_terminal || total < (8 << 20)) return;
      drawn = true;
      console.out << "\r"
                  << Fitted(absl::StrFormat("uploading %s  %s of %s", local.path, HumanBytes(done), HumanBytes(total)),
                            console.width() - 1)
                  << "\x1b[K" << std::flush;
    });
    if (drawn) console.out << "\r\x1b[K" << std::flush;
    if (!status.ok()) {
      return absl::Status(absl::IsNotFound(status) ? absl::StatusCode::kInvalidArgument : status.code(),
                          absl::StrCat(local.input.field(), ": upload of ", local.path, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

// An answer that is lost is asked for again with the same request id: the controller makes no second job of it.
absl::StatusOr<v1::SubmitJobResponse> Send(Connection& connection, const v1::SubmitJobRequest& request) {
  absl::StatusOr<v1::SubmitJobResponse> response;
  absl::Duration wait = absl::Milliseconds(100);
  for (int attempt = 1; attempt <= 6; ++attempt) {
    response = connection.Call<v1::SubmitJobResponse>([&](grpc::ClientContext& context, v1::SubmitJobResponse& answer) {
      return connection.stub().SubmitJob(&context, request, &answer);
    });
    if (response.ok() || ExitCodeOf(response.status()) != kUnreachable || attempt == 6) break;
    connection.console().err << "studioctl: no answer; asking again with the same request id" << std::endl;
    if (connection.console().interrupt.WaitFor(Jittered(wait))) break;
    wait = std::min(2 * wait, absl::Seconds(2));
  }
  if (!response.ok() && ExitCodeOf(response.status()) == kUnreachable) {
    return absl::Status(response.status().code(), absl::StrCat(response.status().message(),
                                                               "\nThe job may have been stored. To get the same one: "
                                                               "studioctl submit --request-id ",
                                                               request.request_id(), " …"));
  }
  return response;
}

absl::StatusOr<v1::JobRecord> SubmitOne(Connection& connection, const JobFile& file, const std::string& request_id,
                                        const std::string& form) {
  Console& console = connection.console();
  ASSIGN_OR_RETURN(const std::vector<LocalInput> inputs, FindInputs(file.job, file.folder, {}));
  v1::SubmitJobRequest request;
  request.set_request_id(request_id);
  *request.mutable_job() = file.job;
  for (const LocalInput& local : inputs) *request.add_inputs() = local.input;
  absl::StatusOr<v1::SubmitJobResponse> sent = absl::UnknownError("");
  for (int attempt = 1; attempt <= 2; ++attempt) {
    RETURN_IF_ERROR(Upload(connection, inputs));
    sent = Send(connection, request);
    // A file that was uploaded long before the last one may have been collected meanwhile: what is missing goes again.
    if (inputs.empty() || !absl::IsFailedPrecondition(sent.status())) break;
  }
  ASSIGN_OR_RETURN(const v1::SubmitJobResponse response, std::move(sent));
  const v1::JobRecord& record = response.record();
  if (form == "table" || form == "wide") {
    console.out << record.id() << " (" << Printable(record.job().name()) << ") "
                << (response.existed() ? "was submitted before with this request id" : "submitted") << std::endl;
  } else {
    console.out << PrintJobs({record}, form, false, absl::Now()) << std::flush;
  }
  return record;
}

ExitCode Submit(Connection& connection, const Settings& settings, const SubmitFlags& flags) {
  Console& console = connection.console();
  const absl::StatusOr<std::vector<JobFile>> files = ReadJobFiles(flags.files, flags.sets, console);
  if (!files.ok()) return Fail(console, files.status());
  const std::string request_id = flags.request_id.empty() ? RandomRequestId() : flags.request_id;
  std::vector<std::string> ids;
  for (size_t i = 0; i < files->size(); ++i) {
    // Each job of an invocation has an id of its own that a repeated invocation finds again.
    const std::string id = files->size() == 1 ? request_id : absl::StrCat(request_id, "/", i + 1);
    const absl::StatusOr<v1::JobRecord> record = SubmitOne(connection, (*files)[i], id, settings.output);
    if (!record.ok()) return Fail(console, record.status());
    ids.push_back(record->id());
  }
  ExitCode worst = kDone;
  for (const std::string& id : ids) {
    if (!flags.follow) break;
    const ExitCode code = Follow(connection, id, {});
    if (worst == kDone) worst = code;
    if (console.interrupt.raised()) break;
  }
  return worst;
}

}  // namespace

void AddSubmit(CLI::App& app, Program& program) {
  CLI::App& command = *app.add_subcommand("submit", "Upload what a job names and put it in the queue");
  const auto flags = std::make_shared<SubmitFlags>();
  command.add_option("FILE", flags->files, "job.pb.txt, or - for jobs on the input, apart by lines of ---")->required();
  command.add_option("--set", flags->sets, "set a field: --set training.learning_rate=1e-4 (again for more)")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command.add_option("--request-id", flags->request_id, "the same id again gives the same job (default: a random one)")
      ->check([](const std::string& id) {
        return id.empty() || id.size() > 120 ? std::string("has 1 to 120 bytes") : std::string();
      });
  command.add_flag("-f,--follow", flags->follow, "show progress and end with the job's outcome");
  AddOutput(command, program);
  OnCall(command, program,
         [flags](Connection& connection, const Settings& settings) { return Submit(connection, settings, *flags); });
}

}  // namespace studio::ctl
