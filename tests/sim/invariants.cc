// The invariants, each judged where something durable or told could break it.
#include <google/protobuf/util/time_util.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/job/job_machine.h"
#include "tests/sim/history.h"

namespace studio::sim {
namespace {

// The controller's figures are to the tick; the last message may have been on its way.
constexpr absl::Duration kSlack = absl::Milliseconds(10);

// The last of these (in order) that is before `time`, or at it.
absl::Time LastUntil(const std::vector<absl::Time>& times, absl::Time time) {
  const auto after = std::upper_bound(times.begin(), times.end(), time);
  return after == times.begin() ? absl::InfinitePast() : *std::prev(after);
}

}  // namespace

void History::CheckTransition(const v1::JobRecord& before, const v1::JobRecord& after) {
  const std::string& id = after.id();
  if (IsTerminal(before.state()) &&
      (after.state() != before.state() || after.attempts_size() != before.attempts_size() ||
       after.reason() != before.reason())) {
    Violation("TerminalAbsorbs", absl::StrCat(id, " was ", v1::JobState_Name(before.state()), " and became ",
                                              v1::JobState_Name(after.state())));
  }
  if (after.checkpoint().step() < before.checkpoint().step()) {
    Violation("StepsNeverGoBack",
              absl::StrCat(id, " fell from step ", before.checkpoint().step(), " to ", after.checkpoint().step()));
  }
  if (after.checkpoint().step() != before.checkpoint().step() ||
      after.checkpoint().epoch() != before.checkpoint().epoch()) {
    if (!verifies(after.checkpoint())) {
      Violation("RecordedOrNothing",
                absl::StrCat(id, ": the checkpoint of step ", after.checkpoint().step(), " does not verify"));
    }
    const v1::Attempt* live = LiveAttempt(before);
    if (before.revision() > 0 && (live == nullptr || live->epoch() != after.checkpoint().epoch())) {
      Violation("OnlyTheCurrentEpochCounts",
                absl::StrCat(id, " records a checkpoint of epoch ", after.checkpoint().epoch()));
    }
  }
  if (before.revision() == 0 && !after.request_id().empty()) {
    const auto [found, fresh] = by_request_.emplace(after.request_id(), id);
    if (!fresh) {
      Violation("TwiceIsOnce", absl::StrCat("request ", after.request_id(), " made ", found->second, " and ", id));
    }
  }
  for (int i = 0; i + 1 < after.attempts_size(); ++i) {
    if (IsLive(after.attempts(i).state())) Violation("OneLiveAttempt", absl::StrCat(id, " has two live attempts"));
  }
  if (after.attempts_size() > before.attempts_size()) CheckNewAttempt(before, after);
  if (const v1::Attempt* was = LiveAttempt(before)) {
    const v1::Attempt& is = after.attempts(was->number() - 1);
    if (!IsLive(is.state())) CheckEnd(after, is);
    if (is.epoch() != was->epoch()) Violation("EpochsGrow", absl::StrCat(id, " changed an epoch"));
  }
  if (after.state() == v1::SUCCEEDED && before.state() != v1::SUCCEEDED) {
    if (!result_verifies(after)) Violation("SuccessHasItsResult", absl::StrCat(id, " has no result, or another's"));
  }
}

void History::CheckNewAttempt(const v1::JobRecord& before, const v1::JobRecord& after) {
  const v1::Attempt& attempt = *after.attempts().rbegin();
  const auto [found, fresh] = epochs_.emplace(attempt.epoch(), after.id());
  if (!fresh || std::next(found) != epochs_.end()) {
    Violation("EpochsGrow", absl::StrCat(after.id(), " got epoch ", attempt.epoch(), ", and ", epochs_.rbegin()->first,
                                         " was given before"));
  }
  if (attempt.start_step() != before.checkpoint().step() && before.revision() > 0) {
    Violation("StepsNeverGoBack", absl::StrCat(after.id(), " starts at step ", attempt.start_step(), ", recorded is ",
                                               before.checkpoint().step()));
  }
  if (!before.attempts().empty()) {
    const v1::BatchPlan& old = before.attempts().rbegin()->plan();
    if (old.global() != attempt.plan().global()) Violation("GlobalBatchIsFixed", after.id());
  }
  CheckDevices(after);
}

void History::CheckDevices(const v1::JobRecord& record) {
  std::set<std::pair<std::string, std::string>> taken;
  for (const auto& rank : record.attempts().rbegin()->ranks()) {
    for (const std::string& device : rank.device_ids()) taken.insert({rank.worker_id(), device});
  }
  for (const auto& [id, other] : jobs_) {
    const v1::Attempt* live = LiveAttempt(other);
    if (id == record.id() || live == nullptr) continue;
    for (const auto& rank : live->ranks()) {
      for (const std::string& device : rank.device_ids()) {
        if (taken.count({rank.worker_id(), device}) > 0) {
          Violation("DevicesOnce",
                    absl::StrCat(device, " of ", rank.worker_id(), " serves ", id, " and ", record.id()));
        }
      }
    }
  }
}

// No attempt ends without its worker's word, the fence or proof; and none by a word that is not its own.
void History::CheckEnd(const v1::JobRecord& record, const v1::Attempt& attempt) {
  const std::string name = absl::StrCat(record.id(), " attempt ", attempt.number());
  if (attempt.state() == v1::ATTEMPT_FENCED) {
    const std::string& worker = attempt.ranks(0).worker_id();
    // It was decided then; that it is durable may come later. What was heard in the same moment was read after it.
    const absl::Time decided =
        absl::FromUnixNanos(google::protobuf::util::TimeUtil::TimestampToNanoseconds(attempt.end_time()));
    const absl::Time heard = LastUntil(heard_[worker], decided - absl::Nanoseconds(1));
    const absl::Duration silence = decided - std::max(heard, LastUntil(listens_, decided));
    if (silence + kSlack < absl::Seconds(record.job().retry().fence_seconds())) {
      Violation("NoSecondAttemptWithoutFence", absl::StrCat(name, " is fenced after ", absl::FormatDuration(silence)));
    }
  } else if (HasRanks(attempt.epoch())) {
    Violation("OnlyTheCurrentEpochCounts", absl::StrCat(name, " ended as ", v1::AttemptState_Name(attempt.state()), " ",
                                                        v1::Reason_Name(attempt.reason()), " while its ranks run"));
  }
}

void History::Removed(const std::string& sha256) {
  Note(absl::StrCat("blob ", sha256.substr(0, 8), " is collected"));
  for (const auto& [id, job] : jobs_) {
    if (archived_.count(id) > 0) continue;
    bool named = false;
    for (const v1::Input& input : job.inputs()) named = named || input.artifact().files(0).sha256() == sha256;
    for (const v1::FileRef& file : job.result().files()) named = named || file.sha256() == sha256;
    for (const v1::CheckpointShard& shard : job.checkpoint().shards()) named = named || shard.file().sha256() == sha256;
    if (named) Violation("WhatIsNamedIsThere", absl::StrCat("a blob of ", id, " was collected"));
  }
}

void History::SubmitAnswered(const std::string& request_id, const v1::JobRecord& answer) {
  Note(absl::StrCat("the client learns that ", request_id, " is ", answer.id()));
  const auto durable = jobs_.find(answer.id());
  if (durable == jobs_.end() || durable->second.request_id() != request_id) {
    return Violation("DurableBeforeTold",
                     absl::StrCat(request_id, " was answered with ", answer.id(), ", which is not stored"));
  }
  const auto [found, fresh] = answered_.emplace(request_id, answer.id());
  if (found->second != answer.id())
    Violation("TwiceIsOnce", absl::StrCat(request_id, " is ", found->second, " and ", answer.id()));
}

void History::CancelAnswered(const v1::JobRecord& answer) {
  Note(absl::StrCat("the client learns that ", answer.id(), " is being cancelled"));
  const auto durable = jobs_.find(answer.id());
  if (durable == jobs_.end() || (!durable->second.cancel_requested() && !IsTerminal(durable->second.state()))) {
    return Violation("DurableBeforeTold",
                     absl::StrCat("the cancel of ", answer.id(), " was answered and is not stored"));
  }
  if (answer.cancel_requested()) cancels_.insert(answer.id());
}

void History::Told(const std::string& worker, const v1::WorkerDown& down) {
  if (down.has_assign()) {
    const auto job = jobs_.find(down.assign().key().job_id());
    if (job == jobs_.end() || job->second.attempts_size() < down.assign().key().attempt()) {
      Violation("DurableBeforeTold",
                absl::StrCat(worker, " was sent an attempt of ", down.assign().key().job_id(), " that is not stored"));
    }
  } else if (down.has_recorded()) {
    const auto job = jobs_.find(down.recorded().key().job_id());
    if (job == jobs_.end() || job->second.checkpoint().step() < down.recorded().step()) {
      Violation("DurableBeforeTold",
                absl::StrCat(worker, " was told of a recorded step ", down.recorded().step(), " that is not stored"));
    }
  }
}

void History::Said(const std::string& worker, const v1::WorkerUp& up, std::string_view durable_journal) {
  if (!up.has_attempt() && !up.has_checkpoint()) return;
  v1::WorkerUp event = up;
  event.clear_sequence();
  event.clear_acknowledged();
  if (durable_journal.find(event.SerializeAsString()) == std::string_view::npos) {
    Violation("DurableBeforeTold",
              absl::StrCat(worker, " says what its journal does not hold: ", event.ShortDebugString()));
  }
  if (up.has_checkpoint()) CheckNotLost(worker, up.checkpoint());
}

// Too late only for a fence, or for somebody who vouched that the worker is dead.
void History::CheckNotLost(const std::string& worker, const v1::CheckpointWritten& written) {
  const auto job = jobs_.find(written.key().job_id());
  if (job == jobs_.end() || written.manifest().step() <= job->second.checkpoint().step()) return;
  for (const v1::Attempt& attempt : job->second.attempts()) {
    if (attempt.epoch() != written.key().epoch() || attempt.state() != v1::ATTEMPT_FAILED) continue;
    if (attempt.reason() != v1::NODE_LOST || attempt.message().find("confirmed") != std::string::npos) continue;
    Violation("NoCheckpointLost",
              absl::StrCat(worker, " has step ", written.manifest().step(), " of ", written.key().job_id(),
                           ", and its attempt was ended before it could say so"));
  }
}

void History::CheckSettled() {
  for (const auto& [id, job] : jobs_) {
    if (!IsTerminal(job.state())) {
      Violation("Converges", absl::StrCat(id, " (", job.request_id(), ") is still ", v1::JobState_Name(job.state()),
                                          ": ", job.message()));
    } else if (cancels_.count(id) > 0 && job.state() == v1::FAILED) {
      Violation("Converges", absl::StrCat(id, " was cancelled and FAILED"));
    } else if (job.state() == v1::FAILED && !may_fail(job)) {
      Violation("HealthyJobsSucceed", absl::StrCat(id, " (", job.request_id(),
                                                   ") FAILED: ", v1::Reason_Name(job.reason()), " ", job.message()));
    }
  }
  for (const auto& [key, rank] : ranks_) {
    Violation("EndsItsProcesses", absl::StrCat("rank ", rank.task.rank().rank(), " of ", rank.task.job_id(),
                                               " still runs on ", rank.worker));
  }
}

}  // namespace studio::sim
