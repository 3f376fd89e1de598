#include "worker/agent/end_reason.h"

#include <signal.h>
#include <string.h>

#include "absl/strings/str_cat.h"

namespace studio::worker {
namespace {

v1::Reason ReasonOfExitCode(int exit_code) {
  switch (exit_code) {
    case 65:
      return v1::BAD_INPUT;
    case 71:
      return v1::DEVICE_OOM;
    case 72:
      return v1::HOST_OOM;
    default:
      return v1::CRASH;
  }
}

std::string HowItEnded(const ProcessEnd& end) {
  if (end.signal != 0) return absl::StrCat("was killed by signal ", end.signal, " (", strsignal(end.signal), ")");
  return absl::StrCat("ended with exit code ", end.exit_code);
}

}  // namespace

RankVerdict JudgeEnd(const RankEvidence& evidence, const std::string& what) {
  const ProcessEnd& end = evidence.end;
  const bool clean = end.signal == 0 && end.exit_code == 0;
  const std::string printed =
      evidence.last_words.empty() ? "" : absl::StrCat("; it printed last: ", evidence.last_words);

  // The result was complete before it said so: what goes wrong in tearing down costs a note, not the job.
  if (evidence.finished && clean) return {};
  if (evidence.finished) return {v1::REASON_UNSPECIFIED, absl::StrCat(what, " finished, then ", HowItEnded(end))};
  if (evidence.failure) {
    const v1::Reason said = evidence.failure->reason();
    return {said == v1::REASON_UNSPECIFIED ? v1::CRASH : said, evidence.failure->message(),
            evidence.failure->lost_peers()};
  }
  if (clean) return {v1::CRASH, absl::StrCat(what, " ended without saying that it had finished", printed)};
  if (end.signal == SIGKILL && evidence.oom_kills_rose) {
    return {v1::HOST_OOM, absl::StrCat(what,
                                       " was killed because the machine's memory, or its cgroup's limit, was "
                                       "used up: ask for less per device or give the worker more",
                                       printed)};
  }
  if (end.signal != 0) return {v1::CRASH, absl::StrCat(what, " ", HowItEnded(end), printed)};
  return {ReasonOfExitCode(end.exit_code), absl::StrCat(what, " ", HowItEnded(end), printed)};
}

}  // namespace studio::worker
