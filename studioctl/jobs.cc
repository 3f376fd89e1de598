#include <memory>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "studioctl/commands.h"
#include "studioctl/print.h"
#include "studioctl/text.h"

namespace studio::ctl {
namespace {

struct ListFlags {
  std::vector<std::string> states;
  int limit = 0;
  bool all = false;
};

struct IdFlags {
  std::vector<std::string> ids;
  std::string request_id;
};

ExitCode List(Connection& connection, const Settings& settings, const ListFlags& flags) {
  v1::ListJobsRequest request;
  for (const std::string& name : flags.states) {
    v1::JobState state;
    if (!v1::JobState_Parse(absl::AsciiStrToUpper(name), &state)) {
      Fail(connection.console(),
           absl::InvalidArgumentError(absl::StrCat(
               "--state ", name, ": accepted are HELD, PENDING, RUNNING, CANCELLING, SUCCEEDED, FAILED, CANCELLED")));
      return kUsage;
    }
    request.add_states(state);
  }
  request.set_limit(flags.all ? 1000 : flags.limit);
  std::vector<v1::JobRecord> records;
  bool more = true;
  while (more) {
    const auto response =
        connection.Call<v1::ListJobsResponse>([&](grpc::ClientContext& context, v1::ListJobsResponse& answer) {
          return connection.stub().ListJobs(&context, request, &answer);
        });
    if (!response.ok()) return Fail(connection.console(), response.status());
    records.insert(records.end(), response->records().begin(), response->records().end());
    more = response->more() && response->records_size() > 0;
    if (!flags.all) break;
    if (more) request.set_before_id(records.back().id());
  }
  connection.console().out << PrintJobs(records, settings.output, true, absl::Now()) << std::flush;
  if (more && (settings.output == "table" || settings.output == "wide")) {
    connection.console().err << "older jobs are not shown: --all" << std::endl;
  }
  return kDone;
}

ExitCode Get(Connection& connection, const Settings& settings, const IdFlags& flags) {
  std::vector<v1::JobRecord> records;
  for (const std::string& id : flags.ids) {
    const absl::StatusOr<v1::JobRecord> record = connection.Get(id);
    if (!record.ok()) return Fail(connection.console(), record.status());
    records.push_back(*record);
  }
  connection.console().out << PrintJobs(records, settings.output, records.size() > 1, absl::Now()) << std::flush;
  return kDone;
}

ExitCode Cancel(Connection& connection, const Settings& settings, const IdFlags& flags) {
  for (const std::string& id : flags.ids) {
    v1::CancelJobRequest request;
    request.set_id(id);
    const auto record = connection.Call<v1::JobRecord>([&](grpc::ClientContext& context, v1::JobRecord& answer) {
      return connection.stub().CancelJob(&context, request, &answer);
    });
    if (!record.ok()) return Fail(connection.console(), record.status());
    if (settings.output == "table" || settings.output == "wide") {
      connection.console().out << id << " " << StateText(*record) << std::endl;
    } else {
      connection.console().out << PrintJobs({*record}, settings.output, false, absl::Now()) << std::flush;
    }
  }
  return kDone;
}

ExitCode Retry(Connection& connection, const Settings& settings, const IdFlags& flags) {
  v1::RetryJobRequest request;
  request.set_id(flags.ids.front());
  request.set_request_id(flags.request_id.empty() ? RandomRequestId() : flags.request_id);
  const auto response =
      connection.Call<v1::SubmitJobResponse>([&](grpc::ClientContext& context, v1::SubmitJobResponse& answer) {
        return connection.stub().RetryJob(&context, request, &answer);
      });
  if (!response.ok()) return Fail(connection.console(), response.status());
  const v1::JobRecord& record = response->record();
  if (settings.output == "table" || settings.output == "wide") {
    connection.console().out << record.id() << " (" << Printable(record.job().name()) << ") retries " << request.id();
    if (record.checkpoint().step() > 0) connection.console().out << " from step " << record.checkpoint().step();
    connection.console().out << std::endl;
  } else {
    connection.console().out << PrintJobs({record}, settings.output, false, absl::Now()) << std::flush;
  }
  return kDone;
}

}  // namespace

void AddJobs(CLI::App& app, Program& program) {
  CLI::App& list = *app.add_subcommand("list", "Jobs, newest first");
  const auto list_flags = std::make_shared<ListFlags>();
  list.add_option("--state", list_flags->states, "only jobs in this state (again for more)")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  list.add_option("--limit", list_flags->limit, "at most this many (default 100)")->check(CLI::Range(1, 1000));
  list.add_flag("--all", list_flags->all, "however many there are");
  AddOutput(list, program);
  OnCall(list, program, [list_flags](Connection& connection, const Settings& settings) {
    return List(connection, settings, *list_flags);
  });

  const auto add = [&](const char* name, const char* help, bool many, auto body) {
    CLI::App& command = *app.add_subcommand(name, help);
    const auto flags = std::make_shared<IdFlags>();
    command.add_option("JOB", flags->ids, "the job's id, as j7")->required()->expected(1, many ? 1000 : 1);
    if (!many) command.add_option("--request-id", flags->request_id, "the same id again gives the same job");
    AddOutput(command, program);
    OnCall(command, program, [flags, body](Connection& connection, const Settings& settings) {
      return body(connection, settings, *flags);
    });
  };
  add("get", "All there is to know of a job", true, Get);
  add("cancel", "End a job; nothing of it is lost that was recorded", true, Cancel);
  add("retry", "A new job that goes on from an ended one's last checkpoint", false, Retry);
}

}  // namespace studio::ctl
