#include "studioctl/follow.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/time/jitter.h"
#include "studioctl/print.h"
#include "studioctl/progress.h"
#include "studioctl/text.h"

namespace studio::ctl {
namespace {

// What the job came to, in one line; the reason of a failure goes to the error stream.
void Conclude(Console& console, const v1::JobRecord& record) {
  const std::string took = HumanDuration(FromTimestamp(record.end_time()) - FromTimestamp(record.submit_time()));
  const std::string line = absl::StrCat(record.id(), " ", StateText(record), " after ", took);
  if (record.state() == v1::SUCCEEDED) {
    console.out << line;
    if (record.result().files_size() > 0) console.out << "; bring the result home: studioctl download " << record.id();
    console.out << std::endl;
  } else {
    console.err << line << (record.message().empty() ? "" : ": ") << Printable(record.message()) << std::endl;
    if (record.state() == v1::FAILED) console.err << "its log: studioctl logs " << record.id() << std::endl;
  }
}

}  // namespace

ExitCode Follow(Connection& connection, const std::string& id, const FollowOptions& options) {
  Console& console = connection.console();
  if (const absl::Status checked = connection.Check(); !checked.ok()) {
    console.err << "studioctl: " << checked.message() << std::endl;
    return ExitCodeOf(checked);
  }
  ProgressView view(console);
  v1::WatchJobRequest request;
  request.set_id(id);
  bool reached = false;
  std::optional<absl::Time> away_since;
  absl::Duration wait = absl::Milliseconds(100);
  while (true) {
    grpc::ClientContext context;
    const Interrupt::Scope scope(console.interrupt, [&] { context.TryCancel(); });
    const auto stream = connection.stub().WatchJob(&context, request);
    v1::WatchJobResponse response;
    while (stream->Read(&response)) {
      if (away_since) view.Say("the controller is back");
      away_since.reset();
      reached = true;
      wait = absl::Milliseconds(100);
      request.set_after_revision(std::max(request.after_revision(), response.record().revision()));
      view.Show(response);
      if (!IsTerminal(response.record().state())) continue;
      view.Finish();
      Conclude(console, response.record());
      return ExitCodeOf(response.record().state());
    }
    const grpc::Status status = stream->Finish();
    if (console.interrupt.raised()) {
      view.Finish();
      console.err << id << " goes on; studioctl watch " << id << " follows it again, studioctl cancel " << id
                  << " ends it" << std::endl;
      return kNotFinished;
    }
    // OK before the end: a controller that stops in good order. CANCELLED: one that stops in a hurry.
    const bool away = status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                      status.error_code() == grpc::StatusCode::CANCELLED;
    const absl::Time now = absl::Now();
    if (!away || !reached || (away_since && now - *away_since > options.patience)) {
      view.Finish();
      if (status.ok()) {
        console.err << "studioctl: the controller ended the watch before " << id << " ended" << std::endl;
        return kNotFinished;
      }
      const absl::Status error = connection.Explained(status);
      console.err << "studioctl: " << error.message() << std::endl;
      return ExitCodeOf(error);
    }
    if (!away_since) {
      away_since = now;
      if (!status.ok()) view.Say("the controller does not answer; the job goes on, waiting for it");
    }
    console.interrupt.WaitFor(Jittered(wait));
    wait = std::min(2 * wait, absl::Seconds(5));
  }
}

}  // namespace studio::ctl
