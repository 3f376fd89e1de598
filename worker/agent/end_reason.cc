#include "worker/agent/end_reason.h"

#include <string.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/memory/oom_reason.h"
#include "common/memory/out_of_memory.h"
#include "common/memory/process_end.h"

namespace studio::worker {
namespace {

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
  const Oom oom = OomOfEnd({.exit_code = end.exit_code,
                            .signal = end.signal,
                            .cgroup_kills_rose = evidence.cgroup_kills_rose,
                            .kernel_kill = evidence.kernel_kill,
                            .host_memory_bytes = evidence.host_memory_bytes,
                            .last_words = evidence.last_words});
  if (oom != Oom::kNone) {
    const std::string_view remedy = OomRemedy(oom);
    return {ReasonOf(oom), absl::StrCat(what, " ", HowItEnded(end), " for want of memory: ",
                                        absl::string_view(remedy.data(), remedy.size()), printed)};
  }
  const bool bad_input = end.signal == 0 && end.exit_code == kExitBadInput;
  return {bad_input ? v1::BAD_INPUT : v1::CRASH, absl::StrCat(what, " ", HowItEnded(end), printed)};
}

}  // namespace studio::worker
