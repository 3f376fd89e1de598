#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/version/version.h"
#include "studioctl/commands.h"
#include "studioctl/print.h"
#include "studioctl/text.h"

namespace studio::ctl {
namespace {

ExitCode Workers(Connection& connection, const Settings& settings) {
  const auto response =
      connection.Call<v1::ListWorkersResponse>([&](grpc::ClientContext& context, v1::ListWorkersResponse& answer) {
        return connection.stub().ListWorkers(&context, {}, &answer);
      });
  if (!response.ok()) return Fail(connection.console(), response.status());
  const std::vector<v1::WorkerRecord> workers(response->workers().begin(), response->workers().end());
  connection.console().out << PrintWorkers(workers, settings.output, absl::Now()) << std::flush;
  return kDone;
}

ExitCode ConfirmDead(Connection& connection, const std::vector<std::string>& ids) {
  for (const std::string& id : ids) {
    v1::ConfirmWorkerDeadRequest request;
    request.set_id(id);
    const auto worker = connection.Call<v1::WorkerRecord>([&](grpc::ClientContext& context, v1::WorkerRecord& answer) {
      return connection.stub().ConfirmWorkerDead(&context, request, &answer);
    });
    if (!worker.ok()) return Fail(connection.console(), worker.status());
    connection.console().out << id << " is dead; its jobs start anew" << std::endl;
  }
  return kDone;
}

ExitCode Version(Connection& connection, const Settings& settings) {
  Console& console = connection.console();
  const auto response = connection.Version();
  if (settings.output == "json" || settings.output == "yaml") {
    const std::string controller = response.ok() ? ToJson(*response) : "null";
    const std::string json = absl::StrCat("{\"version\": \"", kVersion, "\", \"controller\": ", controller, "}\n");
    console.out << (settings.output == "yaml" ? JsonToYaml(json) : json) << std::flush;
  } else {
    console.out << "studioctl   " << kVersion << std::endl;
    if (response.ok()) {
      console.out << "controller  " << response->version() << " at " << connection.address() << std::endl;
    }
  }
  return response.ok() ? kDone : Fail(console, response.status());
}

}  // namespace

void AddWorkers(CLI::App& app, Program& program) {
  CLI::App& workers = *app.add_subcommand("workers", "Machines that run jobs, and what they have");
  AddOutput(workers, program);
  CLI::App& dead = *workers.add_subcommand(
      "confirm-dead",
      "Vouch that nothing of a worker runs any more: its jobs start anew without waiting for the fence");
  const auto ids = std::make_shared<std::vector<std::string>>();
  dead.add_option("worker", *ids, "ids of workers that are out of contact")->required();
  OnCall(dead, program, [ids](Connection& connection, const Settings&) { return ConfirmDead(connection, *ids); });
  // Called also after its subcommand.
  OnCall(workers, program, [&program, &workers](Connection& connection, const Settings& settings) {
    return workers.get_subcommands().empty() ? Workers(connection, settings) : program.exit_code;
  });
  CLI::App& version = *app.add_subcommand("version", "This program's version and the controller's");
  AddOutput(version, program);
  OnCall(version, program, Version);
}

}  // namespace studio::ctl
