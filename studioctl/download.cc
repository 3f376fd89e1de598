#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/artifact/file_tree.h"
#include "studioctl/commands.h"
#include "studioctl/print.h"
#include "studioctl/text.h"

namespace studio::ctl {
namespace {

struct DownloadFlags {
  std::string id;
  std::string folder;
};

ExitCode Download(Connection& connection, const DownloadFlags& flags) {
  Console& console = connection.console();
  const absl::StatusOr<v1::JobRecord> record = connection.Get(flags.id);
  if (!record.ok()) return Fail(console, record.status());
  const v1::Artifact& result = record->result();
  if (result.files().empty()) {
    console.err << "studioctl: " << flags.id << " is " << StateText(*record) << " and has no result"
                << (IsTerminal(record->state()) ? "" : " yet: studioctl watch " + flags.id) << std::endl;
    return record->state() == v1::SUCCEEDED ? kError : ExitCodeOf(record->state());
  }
  if (result.uri() != "studio:") {
    console.err << "studioctl: the result of " << flags.id << " is not in the controller's store but at "
                << result.uri() << std::endl;
    return kError;
  }
  const std::string& asked = flags.folder.empty() ? record->job().export_().name() : flags.folder;
  const std::string folder = asked.empty() ? flags.id : asked;
  const absl::StatusOr<v1::GetVersionResponse> version = connection.Version();
  if (!version.ok()) return Fail(console, version.status());
  const auto transfers = connection.Transfers(*version);
  if (!transfers.ok()) return Fail(console, transfers.status());
  bool drawn = false;
  const absl::Status status = (*transfers)->DownloadToFolder(result, folder, [&](int64_t done, int64_t total) {
    if (!console.is_terminal) return;
    drawn = true;
    console.err << "\r" << Fitted(absl::StrFormat("%s of %s", HumanBytes(done), HumanBytes(total)), console.width() - 1)
                << "\x1b[K" << std::flush;
  });
  if (drawn) console.err << "\r\x1b[K" << std::flush;
  // A blob that is gone is no job that is not there.
  if (absl::IsNotFound(status)) {
    return Fail(console,
                absl::DataLossError(absl::StrCat(status.message(), ": the controller keeps files of its newest ",
                                                 "jobs alone (--keep-jobs, --keep-days)")));
  }
  if (!status.ok()) return Fail(console, status);
  console.err << result.files_size() << " files, " << HumanBytes(static_cast<double>(ArtifactBytes(result)))
              << ", in:" << std::endl;
  console.out << folder << std::endl;
  return kDone;
}

}  // namespace

void AddDownload(CLI::App& app, Program& program) {
  CLI::App& command = *app.add_subcommand("download", "Bring a job's result home, verified; prints the folder");
  const auto flags = std::make_shared<DownloadFlags>();
  command.add_option("JOB", flags->id, "the job's id, as j7")->required();
  command.add_option("-o,--out", flags->folder,
                     "folder to put it in (default: export.name of the job, else the job's id)");
  OnCall(command, program, [flags](Connection& connection, const Settings&) { return Download(connection, *flags); });
}

}  // namespace studio::ctl
