// The commands of studioctl. Each function declares its commands on the app; the one that was called leaves its exit
// code in Program::exit_code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "studioctl/connection.h"
#include "studioctl/console.h"
#include "studioctl/exit_codes.h"
#include "studioctl/settings.h"

namespace studio::ctl {

struct Program {
  Console& console;
  // As given on the command line.
  Settings flags;
  ExitCode exit_code = kDone;
};

void AddSubmit(CLI::App& app, Program& program);    // submit
void AddJobs(CLI::App& app, Program& program);      // list, get, cancel, retry
void AddWatch(CLI::App& app, Program& program);     // watch, logs
void AddDownload(CLI::App& app, Program& program);  // download
void AddWorkers(CLI::App& app, Program& program);   // workers, version

// Declares -o on a command that prints records.
void AddOutput(CLI::App& command, Program& program);

// Says what went wrong and gives its exit code.
ExitCode Fail(Console& console, const absl::Status& status);

// Runs `body` with settings and a connection when the command is called.
void OnCall(CLI::App& command, Program& program,
            std::function<ExitCode(Connection& connection, const Settings& settings)> body);

// A request id that nobody chose before: 16 random bytes in hex.
std::string RandomRequestId();

// studioctl as a function: argv in, exit code out.
int RunStudioctl(std::vector<std::string> arguments, Console& console);

}  // namespace studio::ctl
