#include "common/job/job_machine.h"

#include <google/protobuf/util/message_differencer.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/job/retry_policy.h"
#include "common/status/macros.h"

namespace studio {
namespace {

using google::protobuf::util::MessageDifferencer;

google::protobuf::Timestamp ToProto(absl::Time time) {
  return google::protobuf::util::TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(time));
}

absl::Status NoEdge(const v1::JobRecord& record, const std::string& event) {
  return absl::FailedPreconditionError(
      absl::StrCat("job ", record.id(), " is ", v1::JobState_Name(record.state()), ": ", event, " is not possible"));
}

// The attempt that `epoch` names, while it may have processes.
absl::StatusOr<v1::Attempt*> Current(v1::JobRecord& record, int64_t epoch) {
  if (record.attempts_size() > 0) {
    v1::Attempt& last = *record.mutable_attempts()->rbegin();
    if (last.epoch() == epoch && IsLive(last.state())) return &last;
  }
  const int64_t newest = record.attempts_size() > 0 ? record.attempts().rbegin()->epoch() : 0;
  return absl::AbortedError(
      absl::StrCat("job ", record.id(), ": epoch ", epoch, " is over (the newest is ", newest, ")"));
}

void End(v1::JobRecord& record, v1::JobState state, absl::Time time) {
  record.set_state(state);
  *record.mutable_end_time() = ToProto(time);
}

// What the end of the job's last attempt means for the job.
void Settle(v1::JobRecord& record, absl::Time time) {
  const v1::Attempt& last = *record.attempts().rbegin();
  record.set_reason(last.reason());
  record.set_message(last.message());
  if (last.state() == v1::ATTEMPT_SUCCEEDED) {
    record.clear_message();
    record.clear_reason();
    return End(record, v1::SUCCEEDED, time);
  }
  if (record.cancel_requested()) {
    record.set_reason(v1::CANCELLED_BY_USER);
    record.set_message("cancelled");
    return End(record, v1::CANCELLED, time);
  }
  if (!ShouldRetry(record)) return End(record, v1::FAILED, time);
  record.set_state(v1::PENDING);
  const int64_t step = record.checkpoint().step();
  record.set_message(absl::StrCat("attempt ", last.number(), " ended with ", v1::Reason_Name(last.reason()),
                                  last.message().empty() ? "" : ": ", last.message(), "; goes on from ",
                                  step > 0 ? absl::StrCat("step ", step) : "the beginning"));
}

// A record is written anew at each change: what it may gather is bounded, far above what a person reads.
constexpr int kMaxEvaluations = 10'000;
constexpr int kMaxSamples = 1'000;
constexpr int kMaxNotes = 1'000;

template <typename Repeated>
void KeepNewest(int most, Repeated& all) {
  if (all.size() > most) all.DeleteSubrange(0, all.size() - most);
}

// Repetitions replace what they repeat; after a resume, a step that is reached again replaces its older figures.
void Merge(const AttemptReported& event, v1::JobRecord& record) {
  if (!MessageDifferencer::Equals(event.data, v1::DataReport::default_instance())) *record.mutable_data() = event.data;
  for (const v1::Evaluation& evaluation : event.evaluations) {
    auto& all = *record.mutable_evaluations();
    auto same = std::find_if(all.begin(), all.end(), [&](const auto& e) { return e.step() == evaluation.step(); });
    *(same != all.end() ? &*same : all.Add()) = evaluation;
  }
  for (const v1::Sample& sample : event.samples) {
    auto& all = *record.mutable_samples();
    auto same = std::find_if(all.begin(), all.end(),
                             [&](const auto& s) { return s.step() == sample.step() && s.prompt() == sample.prompt(); });
    *(same != all.end() ? &*same : all.Add()) = sample;
  }
  for (const std::string& note : event.notes) {
    const auto& all = record.notes();
    if (std::find(all.begin(), all.end(), note) == all.end()) record.add_notes(note);
  }
  KeepNewest(kMaxEvaluations, *record.mutable_evaluations());
  KeepNewest(kMaxSamples, *record.mutable_samples());
  KeepNewest(kMaxNotes, *record.mutable_notes());
}

absl::Status On(const Held&, v1::JobRecord& record) {
  if (record.state() == v1::HELD) return absl::OkStatus();
  if (record.state() != v1::PENDING) return NoEdge(record, "holding");
  record.set_state(v1::HELD);
  return absl::OkStatus();
}

absl::Status On(const Released&, v1::JobRecord& record) {
  if (record.state() == v1::HELD) record.set_state(v1::PENDING);
  return absl::OkStatus();
}

absl::Status On(const PendingExplained& event, v1::JobRecord& record) {
  if (record.state() != v1::PENDING) return NoEdge(record, "explaining why it waits");
  record.set_message(event.message);
  return absl::OkStatus();
}

// The job goes on with another cut of its global batch: its owner should know.
void NoteNewPlan(const v1::BatchPlan& old, const v1::BatchPlan& next, v1::JobRecord& record) {
  if (old.revision() == next.revision()) return;
  record.add_notes(absl::StrCat("attempt ", record.attempts_size(), " ended with ", next.cause(), ": micro batch ",
                                next.micro(), " instead of ", old.micro(), ", gradient accumulation ",
                                next.accumulation(), " instead of ", old.accumulation(), "; the global batch stays ",
                                next.global()));
}

absl::Status On(const Assigned& event, v1::JobRecord& record) {
  if (record.state() != v1::PENDING) return NoEdge(record, "assigning");
  const int64_t newest = record.attempts_size() > 0 ? record.attempts().rbegin()->epoch() : 0;
  if (event.epoch <= newest) {
    return absl::FailedPreconditionError(
        absl::StrCat("job ", record.id(), ": epoch ", event.epoch, " is not above ", newest));
  }
  if (event.ranks.empty()) return NoEdge(record, "assigning no ranks");
  v1::BatchPlan plan = NextPlan(record);
  if (record.attempts_size() > 0) NoteNewPlan(record.attempts().rbegin()->plan(), plan, record);
  v1::Attempt& attempt = *record.add_attempts();
  attempt.set_number(record.attempts_size());
  attempt.set_epoch(event.epoch);
  attempt.set_state(v1::ATTEMPT_ASSIGNED);
  attempt.set_failed_rank(-1);
  attempt.set_start_step(record.checkpoint().step());
  attempt.mutable_ranks()->Add(event.ranks.begin(), event.ranks.end());
  *attempt.mutable_plan() = std::move(plan);
  *attempt.mutable_assigned_time() = ToProto(event.time);
  if (!record.has_start_time()) *record.mutable_start_time() = ToProto(event.time);
  record.set_state(v1::RUNNING);
  record.clear_message();
  record.clear_reason();
  return absl::OkStatus();
}

void EndAttempt(const AttemptReported& event, const v1::JobRecord& record, v1::Attempt& attempt) {
  attempt.set_state(event.state);
  attempt.set_message(event.message);
  attempt.set_exit_code(event.exit_code);
  attempt.set_signal(event.signal);
  *attempt.mutable_end_time() = ToProto(event.time);
  switch (event.state) {
    case v1::ATTEMPT_FAILED:
      attempt.set_reason(event.reason == v1::REASON_UNSPECIFIED ? v1::CRASH : event.reason);
      attempt.set_failed_rank(event.failed_rank);
      break;
    case v1::ATTEMPT_PREEMPTED:
      attempt.set_reason(event.reason == v1::REASON_UNSPECIFIED ? v1::PREEMPTED_BY_SCHEDULER : event.reason);
      break;
    case v1::ATTEMPT_CANCELLED:
      attempt.set_reason(v1::CANCELLED_BY_USER);
      // Nobody here asked for it: without a reason to stop, the job must not hang or be lost.
      if (!record.cancel_requested()) {
        attempt.set_state(v1::ATTEMPT_FAILED);
        attempt.set_reason(v1::CRASH);
        attempt.set_message(absl::StrCat("the worker cancelled it unasked. ", event.message));
      }
      break;
    default:
      break;
  }
}

absl::Status On(const AttemptReported& event, v1::JobRecord& record) {
  // The end is told again where its acknowledgement was lost.
  if (record.attempts_size() > 0) {
    const v1::Attempt& last = *record.attempts().rbegin();
    if (last.epoch() == event.epoch && last.state() == event.state && !IsLive(last.state())) return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(v1::Attempt * attempt, Current(record, event.epoch));
  if (IsLive(event.state) && attempt->state() != v1::ATTEMPT_UNKNOWN && event.state < attempt->state()) {
    return absl::FailedPreconditionError(absl::StrCat("job ", record.id(), " attempt ", attempt->number(), ": ",
                                                      v1::AttemptState_Name(attempt->state()), " cannot become ",
                                                      v1::AttemptState_Name(event.state)));
  }
  if (event.state == v1::ATTEMPT_UNKNOWN || event.state == v1::ATTEMPT_FENCED) {
    return absl::FailedPreconditionError(
        absl::StrCat("job ", record.id(), ": a worker cannot report ", v1::AttemptState_Name(event.state)));
  }
  Merge(event, record);
  if (event.state == v1::ATTEMPT_STATE_UNSPECIFIED) return absl::OkStatus();
  if (event.state == v1::ATTEMPT_RUNNING && !attempt->has_running_time()) {
    *attempt->mutable_running_time() = ToProto(event.time);
  }
  if (IsLive(event.state)) {
    attempt->set_state(event.state);
    return absl::OkStatus();
  }
  EndAttempt(event, record, *attempt);
  if (attempt->state() == v1::ATTEMPT_SUCCEEDED) *record.mutable_result() = event.result;
  Settle(record, event.time);
  return absl::OkStatus();
}

absl::Status On(const CheckpointStored& event, v1::JobRecord& record) {
  RETURN_IF_ERROR(Current(record, event.epoch).status());
  if (event.manifest.step() < record.checkpoint().step()) {
    return absl::FailedPreconditionError(absl::StrCat("job ", record.id(), ": checkpoint of step ",
                                                      event.manifest.step(), " is older than the recorded step ",
                                                      record.checkpoint().step()));
  }
  *record.mutable_checkpoint() = event.manifest;
  return absl::OkStatus();
}

absl::Status On(const ContactLost& event, v1::JobRecord& record) {
  ASSIGN_OR_RETURN(v1::Attempt * attempt, Current(record, event.epoch));
  attempt->set_state(v1::ATTEMPT_UNKNOWN);
  record.set_message(event.message);
  return absl::OkStatus();
}

absl::Status On(const ContactRegained& event, v1::JobRecord& record) {
  ASSIGN_OR_RETURN(v1::Attempt * attempt, Current(record, event.epoch));
  if (attempt->state() != v1::ATTEMPT_UNKNOWN) return absl::OkStatus();
  const bool running = IsLive(event.state) && event.state != v1::ATTEMPT_UNKNOWN;
  // An end comes with its own event; until then it is the safest guess that it still runs.
  attempt->set_state(running ? event.state : v1::ATTEMPT_ASSIGNED);
  record.clear_message();
  return absl::OkStatus();
}

absl::Status On(const GivenUp& event, v1::JobRecord& record) {
  ASSIGN_OR_RETURN(v1::Attempt * attempt, Current(record, event.epoch));
  attempt->set_state(event.fenced ? v1::ATTEMPT_FENCED : v1::ATTEMPT_FAILED);
  attempt->set_reason(event.reason);
  attempt->set_message(event.message);
  *attempt->mutable_end_time() = ToProto(event.time);
  Settle(record, event.time);
  return absl::OkStatus();
}

absl::Status On(const CancelRequested& event, v1::JobRecord& record) {
  if (record.cancel_requested()) return absl::OkStatus();
  record.set_cancel_requested(true);
  if (LiveAttempt(record) != nullptr) {
    record.set_state(v1::CANCELLING);
    return absl::OkStatus();
  }
  record.set_reason(v1::CANCELLED_BY_USER);
  record.set_message("cancelled");
  End(record, v1::CANCELLED, event.time);
  return absl::OkStatus();
}

// What people ask of a job that has ended changes nothing. Events that name an epoch are judged by it instead.
template <typename Event>
constexpr bool kAbsorbed = !requires(Event event) {
  event.epoch;
};

}  // namespace

bool IsStale(const absl::Status& status) { return status.code() == absl::StatusCode::kAborted; }

bool IsTerminal(v1::JobState state) { return state == v1::SUCCEEDED || state == v1::FAILED || state == v1::CANCELLED; }

bool IsLive(v1::AttemptState state) { return state >= v1::ATTEMPT_ASSIGNED && state <= v1::ATTEMPT_UNKNOWN; }

const v1::Attempt* LiveAttempt(const v1::JobRecord& record) {
  if (record.attempts_size() == 0) return nullptr;
  const v1::Attempt& last = *record.attempts().rbegin();
  return IsLive(last.state()) ? &last : nullptr;
}

absl::StatusOr<v1::JobRecord> Apply(v1::JobRecord record, const JobEvent& event) {
  const v1::JobRecord before = record;
  absl::Status status = std::visit(
      [&]<typename Event>(const Event& e) {
        if constexpr (kAbsorbed<Event>) {
          if (IsTerminal(record.state())) return absl::OkStatus();
        }
        return On(e, record);
      },
      event);
  RETURN_IF_ERROR(status);
  if (!MessageDifferencer::Equals(before, record)) record.set_revision(before.revision() + 1);
  return record;
}

}  // namespace studio
