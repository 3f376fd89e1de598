// The worker's end of a session with its controller: greeting, heartbeats, sequences, acknowledgement, redelivery and
// back-off, as a class without gRPC, threads, files or clock. Its owner tells it what happened and does what it
// answers.
//
//   WorkerSession session({.hello = hello, .seed = random});
//   Do(session.OnTick(now));                       // → Dial, Send{hello}
//   Do(session.OnMessage(welcome, now));           // → Send{…} for whatever was not acknowledged
//   Do(session.Report(attempt_event, now));        // → Store{id, event}; once durable:
//   Do(session.OnStored(id, now));                 // → Send{event}
//   Do(session.OnDisconnected(status, now));       // → nothing; next_tick() says when to call OnTick
//
//        OnTick            Welcome
//   AWAY ──────▶ GREETING ────────▶ OPEN          a broken stream, silence or a protocol error: back to AWAY
//                    └── refused ──▶ REFUSED      only where no attempt is lost by it; else AWAY, with a long back-off
//
// What is reported is kept in order until the controller acknowledged it, and sent again on the next stream.
// Events are durable (Store first). Buffered messages (progress, logs) live in memory only, up to a limit of bytes, and
// few of them are under way at a time: where the controller is slow, events overtake them.
// Threading: belongs to one thread. Deterministic: the same calls and seed give the same actions.
#pragma once

#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/studio/v1/worker.pb.h"

namespace studio::worker {

// Open a new stream.
struct Dial {};
// Close the stream; OnDisconnected need not be called for it.
struct HangUp {
  std::string why;
};
struct Send {
  v1::WorkerUp message;
};
// Make the event durable, then call OnStored(id).
struct Store {
  int64_t id;
  v1::WorkerUp message;
};
// The event was acknowledged: its record may go.
struct Forget {
  int64_t id;
};
// Act on it (durably), then call OnHandled(message.sequence()).
struct Deliver {
  v1::WorkerDown message;
};
// The controller does not want this worker: stop, and tell a person why.
struct GiveUp {
  std::string why;
};
using SessionAction = std::variant<Dial, HangUp, Send, Store, Forget, Deliver, GiveUp>;
using SessionActions = std::vector<SessionAction>;

class WorkerSession {
 public:
  struct Options {
    // Its attempts are kept up to date through SetAttempts.
    v1::Hello hello;
    // Ids that an earlier incarnation gave are not given again.
    int64_t last_event_id = 0;
    // Of the back-off's jitter.
    uint64_t seed = 0;
    absl::Duration min_backoff = absl::Milliseconds(100);
    absl::Duration max_backoff = absl::Seconds(5);
    // Between tries while a controller refuses a worker that has attempts running.
    absl::Duration refused_backoff = absl::Seconds(60);
    absl::Duration greeting_timeout = absl::Seconds(10);
    // Buffered messages that wait beyond this are dropped, oldest first.
    int64_t max_buffered_bytes = 64 << 20;
    // Buffered messages that were sent and not acknowledged; at least one. A controller reads on while fewer than 1,000
    // are not durable: states and heartbeats never wait for a log.
    int64_t max_in_flight_bytes = 1 << 20;
    int64_t max_in_flight = 500;
  };

  explicit WorkerSession(Options options);

  // Before the first OnTick: events that an earlier incarnation stored and nobody acknowledged, in order of id.
  void Restore(int64_t id, v1::WorkerUp message);

  // What the next greeting says.
  void SetAttempts(std::vector<v1::RunningAttempt> attempts);

  // An event that must not be lost. Its sequence and acknowledgement are set here.
  SessionActions Report(v1::WorkerUp message);
  SessionActions OnStored(int64_t id, absl::Time now);
  // A message that is kept in memory only.
  SessionActions ReportBuffered(v1::WorkerUp message, absl::Time now);

  SessionActions OnMessage(const v1::WorkerDown& message, absl::Time now);
  // The owner acted durably on the message of this sequence and on all before it.
  SessionActions OnHandled(int64_t sequence, absl::Time now);
  SessionActions OnDisconnected(const absl::Status& why, absl::Time now);
  SessionActions OnTick(absl::Time now);

  // When OnTick has something to do next.
  absl::Time next_tick() const;

  bool open() const { return state_ == State::kOpen; }
  // Since when nothing was heard from a controller; infinite past before the first Welcome.
  absl::Time last_contact() const { return last_contact_; }
  // When the last dial began that found no controller; infinite past where the last one found one.
  absl::Time last_vain_dial() const { return last_vain_dial_; }
  // Events and messages that nobody acknowledged yet.
  size_t unacknowledged() const { return events_.size() + buffered_.size() + sent_.size(); }
  // A controller is there, and takes buffered messages more slowly than they come. `was`: it was before, and is until
  // half of what made it so is gone.
  bool congested(bool was = false) const {
    return open() && buffered_bytes_ > options_.max_buffered_bytes / (was ? 8 : 4);
  }
  size_t unacknowledged_events() const;
  // Since the start: streams dialled, and buffered messages dropped.
  int64_t dials() const { return dials_; }
  int64_t dropped() const { return dropped_; }

 private:
  enum class State { kAway, kGreeting, kOpen, kRefused };
  struct Entry {
    // 0: buffered.
    int64_t id;
    v1::WorkerUp message;
    int64_t bytes;
    bool stored;
    // Counts up over both queues.
    int64_t arrival;
    // In this stream; 0: not sent in it.
    int64_t sequence;
  };

  SessionActions OnWelcome(const v1::Welcome& welcome, absl::Time now);
  SessionActions OnRefused(const std::string& why, absl::Time now);
  void Acknowledge(int64_t sequence, SessionActions& actions);
  void Pump(SessionActions& actions, absl::Time now);
  void SendNow(v1::WorkerUp message, SessionActions& actions, absl::Time now);
  void GoAway(absl::Time now, absl::Duration at_least);
  void DropBeyondLimit();
  // What was sent in the stream before waits again, in front of what came later.
  void TakeBackSent();

  Options options_;
  State state_ = State::kAway;
  std::mt19937_64 random_;
  int failures_ = 0;

  absl::Time next_dial_ = absl::InfinitePast();
  absl::Time greeting_deadline_;
  absl::Time next_heartbeat_;
  absl::Time last_contact_ = absl::InfinitePast();
  absl::Time dialled_;
  absl::Time last_vain_dial_ = absl::InfinitePast();
  absl::Duration heartbeat_interval_;
  absl::Duration silence_limit_;

  // What waits to be sent, each in the order of its arrival, and what was sent in this stream, in that order.
  std::deque<Entry> events_, buffered_, sent_;
  int64_t next_arrival_ = 1;
  int64_t next_id_ = 1;
  int64_t buffered_bytes_ = 0;   // that wait
  int64_t in_flight_bytes_ = 0;  // of buffered messages in sent_
  int64_t in_flight_ = 0;
  int64_t dials_ = 0;
  int64_t dropped_ = 0;
  int64_t sent_sequence_ = 0;
  int64_t seen_sequence_ = 0;
  int64_t handled_sequence_ = 0;
  int64_t told_handled_ = 0;
};

}  // namespace studio::worker
