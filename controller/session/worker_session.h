// The controller's end of one worker's session: outlives the streams that the worker dials, one after another.
// Messages, ticks and outcomes of stores go in; actions come out. No gRPC, no threads, no clock of its own.
//
//   WorkerSession session(options, stored_worker, now);
//   session.Connected(now);
//   for (SessionAction& action : session.OnMessage(up, now)) { … }
//   for (SessionAction& action : session.OnStored(token, StoreOutcome::kStored)) { … }
//
// The stream:   silent ──Connected──▶ greeting ──Hello──▶ storing ──OnStored──▶ ready ──Disconnected / refused──▶
// silent
//               Only a ready worker that was heard within lost_after gets work.
// An attempt:   tracked from its assignment (or the controller's start) until it ended. Each message from the worker
//               renews it, if the worker has accounted for it. Not renewed for lost_after: ContactLost; for the job's
//               fence on top of that: GivenUp. The clock only says when a second attempt may start; what counts is
//               decided by the epoch, in job_machine.
//
// Down messages are not kept for redelivery: what a worker must know follows from the attempts that are tracked here
// and those that its Hello lists, so a reconnect and a restarted controller take the same path. An assignment that the
// worker does not list is sent again; a stop that is wanted, too; an epoch that is over is told so.
// Up messages are acknowledged by their sequence, in order, once what they say is durable.
//
// Single-threaded. Borrows nothing.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/job/job_machine.h"
#include "common/version/version.h"
#include "proto/studio/v1/controller.pb.h"
#include "proto/studio/v1/worker.pb.h"

namespace studio::controller {

struct SessionOptions {
  // Without a message for this long a worker is UNKNOWN.
  absl::Duration lost_after = absl::Seconds(15);
  absl::Duration heartbeat = absl::Seconds(5);
  std::string version;
  std::string transfer_address;
};

struct SendDown {
  v1::WorkerDown message;
};
// Ends the stream; the worker may dial again.
struct CloseStream {
  absl::Status status;
};
// Answer with OnStored(token) once durable.
struct SaveWorker {
  int64_t token = 0;
  v1::WorkerRecord record;
};
// Apply to the job and store; answer with OnStored(token), whatever came of it.
struct ChangeJob {
  int64_t token = 0;
  v1::AttemptKey key;
  JobEvent event;
};
// Data beside the store; no state waits for it. Answer with OnStored(token) once it would survive this process.
struct KeepPoints {
  int64_t token = 0;
  v1::ProgressReport report;
};
struct KeepLog {
  int64_t token = 0;
  v1::LogChunk chunk;
};
// Whether the worker can take work changed: plan anew.
struct Replan {};

using SessionAction = std::variant<SendDown, CloseStream, SaveWorker, ChangeJob, KeepPoints, KeepLog, Replan>;
using SessionActions = std::vector<SessionAction>;

enum class StoreOutcome {
  kStored,
  kStale,    // the epoch is over
  kRefused,  // no such edge, or what it refers to is not there
};

class WorkerSession {
 public:
  // `worker` is what is stored of it, or just its id.
  WorkerSession(SessionOptions options, v1::WorkerRecord worker);

  // A live attempt found in the store at the controller's start: counts as just renewed.
  void Track(v1::Assign assign, absl::Duration fence, v1::AttemptState state, absl::Time now);
  // A new assignment, durable already.
  SessionActions Deliver(v1::Assign assign, absl::Duration fence, absl::Time now);
  // The wish to stop an attempt, durable already.
  SessionActions Stop(v1::StopAttempt stop);
  // The attempt of this job ended, durably or not: no more renewals and redeliveries.
  void Forget(const std::string& job_id);

  // Whether a stream that greets like this may take over from the one there is. The text is for the worker.
  absl::Status Check(const v1::Hello& hello) const;
  void Connected(absl::Time now);
  SessionActions Disconnected();
  SessionActions OnMessage(const v1::WorkerUp& message, absl::Time now);
  SessionActions OnStored(int64_t token, StoreOutcome outcome);
  SessionActions OnTick(absl::Time now);
  // Somebody vouches that nothing of this worker runs any more. Only while it is not connected.
  SessionActions ConfirmDead(const std::string& who, absl::Time now);
  // The controller itself was away: nobody's silence counts from before now.
  void RenewAll(absl::Time now);
  // When OnTick has something to do next.
  absl::Time NextDeadline() const;

  // Messages of this stream that are neither durable nor refused.
  size_t unsettled() const { return unacknowledged_.size(); }
  // Ready, heard lately, and not on its way out.
  bool usable() const { return connected() && !draining_; }
  bool connected() const { return stream_ == Stream::kReady && !quiet_; }
  // With `connected`, `last_seen` and `job_ids` as of now.
  v1::WorkerRecord Describe() const;
  const v1::WorkerRecord& worker() const { return worker_; }

 private:
  enum class Stream { kSilent, kGreeting, kStoring, kReady };
  struct Tracked {
    v1::Assign assign;
    absl::Duration fence;
    // As last heard, never UNKNOWN.
    v1::AttemptState state = v1::ATTEMPT_ASSIGNED;
    std::optional<v1::StopAttempt> stop;
    int64_t recorded_step = 0;
    absl::Time renewed;
    bool unknown = false;
    // The worker's messages speak for it: it was assigned in this session, or the last Hello listed it.
    bool accounted = false;
    bool given_up = false;
  };
  struct Pending {
    enum class Kind { kHello, kAttempt, kCheckpoint, kKept, kGiveUp, kContact } kind = Kind::kContact;
    v1::AttemptKey key = {};
    int64_t sequence = 0;  // 0: nothing to acknowledge
    int64_t stream = 0;
    int64_t step = 0;
  };
  struct Unacknowledged {
    int64_t sequence = 0;
    bool settled = false;
  };

  SessionActions OnHello(const v1::Hello& hello, int64_t sequence, absl::Time now);
  // What the listed attempts, or their absence, say of those tracked here.
  void Reconcile(const v1::Hello& hello, bool same_incarnation, bool new_boot, absl::Time now, SessionActions& actions);
  void BecomeReady(SessionActions& actions);
  void OnAttempt(const v1::AttemptEvent& event, int64_t sequence, absl::Time now, SessionActions& actions);
  void Renew(absl::Time now, SessionActions& actions);
  void GiveUp(Tracked& attempt, bool fenced, const std::string& why, absl::Time now, SessionActions& actions);
  void TellOverOnce(const v1::AttemptKey& key, SessionActions& actions);
  void Send(v1::WorkerDown message, SessionActions& actions);
  void Acknowledge(int64_t sequence, SessionActions& actions);
  SessionActions Refuse(const std::string& why);
  Tracked* Find(const v1::AttemptKey& key);
  int64_t NewToken(Pending pending);

  const SessionOptions options_;
  v1::WorkerRecord worker_;
  std::map<std::string, Tracked> attempts_;  // by job: a job has one live attempt
  std::map<int64_t, Pending> pending_;
  int64_t next_token_ = 1;

  Stream stream_ = Stream::kSilent;
  int64_t stream_number_ = 0;
  int protocol_ = kMaxProtocol;  // that this stream speaks
  bool quiet_ = false;           // the stream is open, but nothing came for lost_after
  // It handed a job back because it is going down: it would hand the next one back too. Until it greets again.
  bool draining_ = false;
  absl::Time last_heard_ = absl::InfinitePast();
  int64_t received_ = 0;      // the last sequence that came in
  int64_t acknowledged_ = 0;  // the last sequence that is durable, with all before it
  int64_t sent_ = 0;
  std::deque<Unacknowledged> unacknowledged_;
  std::set<int64_t> told_over_;                // epochs, on this stream
  std::set<int64_t> listed_;                   // epochs that the last Hello lists
  std::set<int64_t> ended_at_hello_;           // epochs whose unacknowledged end it lists
  std::vector<v1::AttemptKey> over_at_hello_;  // to be told when ready
};

}  // namespace studio::controller
