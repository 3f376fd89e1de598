// The state machine of a job and its attempts: the only place where either changes.
//
//   ASSIGN_OR_RETURN(v1::JobRecord next, Apply(std::move(record), JobEvent{CancelRequested{now}}));
//
//                       Assigned                  AttemptReported(SUCCEEDED)
//   HELD ──Released──▶ PENDING ─────────▶ RUNNING ─────────────────────────────▶ SUCCEEDED
//    │ ◀───Held──────── │   ▲              │  │ ended, retry policy says no ───▶ FAILED
//    │                  │   └──────────────┘  │
//    │                  │  ended, retried     │ CancelRequested
//    │ CancelRequested  │ CancelRequested     ▼
//    └──────────────────┴───────────────▶ CANCELLING ─ attempt ended ──────────▶ CANCELLED
//                       (at once CANCELLED)   └──── attempt had succeeded ─────▶ SUCCEEDED
//
//   Attempt: ASSIGNED ▶ PREPARING ▶ STARTING ▶ RUNNING ▶ SUCCEEDED | FAILED(reason) | PREEMPTED | CANCELLED
//            (forward only, states may be passed over; any live state can end)
//            any live state ─ContactLost▶ UNKNOWN ─ContactRegained▶ as the worker says ; ─GivenUp▶ FENCED | FAILED
//
// Outcomes of Apply:
//   OK                   the record after the event; `revision` is one higher if anything changed, and the same where
//                        the event was a repetition or the job is terminal (terminal states absorb).
//   Aborted              the event speaks for an epoch that is over: ignore it and tell its sender to end (IsStale).
//   FailedPrecondition   no such edge; nothing may change.
// Events carry their time: the function is pure, has no clock and no threads, and owns nothing.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/studio/v1/state.pb.h"

namespace studio {

// PENDING → HELD, and back.
struct Held {};
struct Released {};

// The scheduler's decision, with a new epoch.
struct Assigned {
  int64_t epoch = 0;
  std::vector<v1::RankAssignment> ranks = {};
  absl::Time time = {};
};

// Why the job still waits, for people.
struct PendingExplained {
  std::string message = {};
};

// The worker's word on an attempt. UNSPECIFIED: data only.
struct AttemptReported {
  int64_t epoch = 0;
  v1::AttemptState state = v1::ATTEMPT_STATE_UNSPECIFIED;
  v1::Reason reason = v1::REASON_UNSPECIFIED;
  std::string message = {};
  int failed_rank = -1;
  int exit_code = 0;
  int signal = 0;
  v1::Artifact result = {};
  v1::DataReport data = {};
  std::vector<v1::Evaluation> evaluations = {};
  std::vector<v1::Sample> samples = {};
  std::vector<std::string> notes = {};
  absl::Time time = {};
};

// Compare-and-set on the epoch; the step never goes backwards.
struct CheckpointStored {
  int64_t epoch = 0;
  v1::CheckpointManifest manifest = {};
};

struct ContactLost {
  int64_t epoch = 0;
  std::string message = {};
};

// `state` is the worker's: only that end knows what it was meanwhile.
struct ContactRegained {
  int64_t epoch = 0;
  v1::AttemptState state = v1::ATTEMPT_STATE_UNSPECIFIED;
};

// The attempt is over without its worker's word: its fence passed (`fenced`), or its ranks are proven dead.
struct GivenUp {
  int64_t epoch = 0;
  bool fenced = false;
  v1::Reason reason = v1::NODE_LOST;
  std::string message = {};
  absl::Time time = {};
};

struct CancelRequested {
  absl::Time time = {};
};

using JobEvent = std::variant<Held, Released, Assigned, PendingExplained, AttemptReported, CheckpointStored,
                              ContactLost, ContactRegained, GivenUp, CancelRequested>;

absl::StatusOr<v1::JobRecord> Apply(v1::JobRecord record, const JobEvent& event);

// The event was for an epoch that is over.
bool IsStale(const absl::Status& status);

bool IsTerminal(v1::JobState state);
bool IsLive(v1::AttemptState state);

// The attempt that may have processes, or null.
const v1::Attempt* LiveAttempt(const v1::JobRecord& record);

}  // namespace studio
