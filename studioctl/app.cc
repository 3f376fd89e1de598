#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "studioctl/commands.h"

namespace studio::ctl {

void AddOutput(CLI::App& command, Program& program) {
  command.add_option("-o,--output", program.flags.output, "table, wide, json, yaml or name");
}

ExitCode Fail(Console& console, const absl::Status& status) {
  console.err << "studioctl: " << status.message() << std::endl;
  return ExitCodeOf(status);
}

void OnCall(CLI::App& command, Program& program,
            std::function<ExitCode(Connection& connection, const Settings& settings)> body) {
  command.callback([&program, body = std::move(body)] {
    const absl::StatusOr<Settings> settings = ResolveSettings(program.flags, program.console);
    if (!settings.ok()) {
      Fail(program.console, settings.status());
      program.exit_code = kUsage;
      return;
    }
    Connection connection(*settings, program.console);
    program.exit_code = body(connection, *settings);
  });
}

std::string RandomRequestId() {
  std::random_device random;
  std::string bytes(16, 0);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return absl::BytesToHexString(bytes);
}

int RunStudioctl(std::vector<std::string> arguments, Console& console) {
  CLI::App app("Submits fine-tuning jobs, follows them and brings their results home.", "studioctl");
  app.footer(
      "Exit codes: 0 done, 1 error, 2 usage, 100 job failed, 101 not finished, 102 not found, 103 cancelled,\n"
      "104 controller unreachable, 105 refused (invalid or can never fit). docs/cli.md has examples.");
  app.require_subcommand(1);
  app.fallthrough();
  Program program{console, {}, kDone};
  app.add_option("--controller", program.flags.controller,
                 "host:port of the controller (else STUDIO_CONTROLLER, the config file, 127.0.0.1:7070)");
  AddSubmit(app, program);
  AddJobs(app, program);
  AddWatch(app, program);
  AddDownload(app, program);
  AddWorkers(app, program);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(std::move(arguments));
  } catch (const CLI::Success& wanted) {  // --help
    app.exit(wanted, console.out, console.err);
    return kDone;
  } catch (const CLI::ParseError& error) {
    app.exit(error, console.out, console.err);
    return kUsage;
  }
  return program.exit_code;
}

}  // namespace studio::ctl
