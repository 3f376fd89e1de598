#include "controller/session/worker_session.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"

namespace studio::controller {
namespace {

using google::protobuf::util::TimeUtil;

absl::Time FromProto(const google::protobuf::Timestamp& time) {
  return absl::FromUnixNanos(TimeUtil::TimestampToNanoseconds(time));
}

AttemptReported ToEvent(const v1::AttemptEvent& event, absl::Time now) {
  AttemptReported reported{.epoch = event.key().epoch(),
                           .state = event.state(),
                           .reason = event.reason(),
                           .message = event.message(),
                           .failed_rank = event.failed_rank(),
                           .exit_code = event.exit_code(),
                           .signal = event.signal(),
                           .result = event.result(),
                           .data = event.data(),
                           .evaluations = {event.evaluations().begin(), event.evaluations().end()},
                           .samples = {event.samples().begin(), event.samples().end()},
                           .notes = {event.notes().begin(), event.notes().end()},
                           .time = now};
  // What happened while out of contact keeps its own time; a clock that runs ahead does not reach the future.
  if (event.has_time()) reported.time = std::min(now, FromProto(event.time()));
  return reported;
}

}  // namespace

WorkerSession::WorkerSession(SessionOptions options, v1::WorkerRecord worker)
    : options_(std::move(options)), worker_(std::move(worker)) {
  worker_.set_connected(false);
}

void WorkerSession::Track(v1::Assign assign, absl::Duration fence, v1::AttemptState state, absl::Time now) {
  Tracked attempt;
  attempt.unknown = state == v1::ATTEMPT_UNKNOWN;
  // It may have started before contact was lost.
  attempt.state = attempt.unknown ? v1::ATTEMPT_PREPARING : state;
  attempt.fence = fence;
  attempt.renewed = now;
  attempt.recorded_step = assign.checkpoint().step();
  const std::string job_id = assign.key().job_id();
  attempt.assign = std::move(assign);
  attempts_[job_id] = std::move(attempt);
}

SessionActions WorkerSession::Deliver(v1::Assign assign, absl::Duration fence, absl::Time now) {
  SessionActions actions;
  Track(assign, fence, v1::ATTEMPT_ASSIGNED, now);
  Tracked& attempt = attempts_[assign.key().job_id()];
  attempt.recorded_step = 0;
  attempt.accounted = true;
  if (stream_ == Stream::kReady) {
    v1::WorkerDown down;
    *down.mutable_assign() = std::move(assign);
    Send(std::move(down), actions);
  }
  return actions;
}

SessionActions WorkerSession::Stop(v1::StopAttempt stop) {
  SessionActions actions;
  Tracked* attempt = Find(stop.key());
  if (attempt == nullptr) return actions;
  attempt->stop = stop;
  if (stream_ == Stream::kReady) {
    v1::WorkerDown down;
    *down.mutable_stop() = std::move(stop);
    Send(std::move(down), actions);
  }
  return actions;
}

void WorkerSession::Forget(const std::string& job_id) { attempts_.erase(job_id); }

void WorkerSession::Connected(absl::Time now) {
  stream_ = Stream::kGreeting;
  ++stream_number_;
  quiet_ = false;
  last_heard_ = now;
  received_ = acknowledged_ = sent_ = 0;
  unacknowledged_.clear();
  told_over_.clear();
  listed_.clear();
  ended_at_hello_.clear();
  over_at_hello_.clear();
}

SessionActions WorkerSession::Disconnected() {
  const bool was_usable = usable();
  stream_ = Stream::kSilent;
  if (was_usable) return {Replan{}};
  return {};
}

SessionActions WorkerSession::Refuse(const std::string& why) {
  SessionActions actions;
  v1::WorkerDown down;
  down.set_refused(why);
  Send(std::move(down), actions);
  actions.push_back(CloseStream{absl::FailedPreconditionError(why)});
  stream_ = Stream::kSilent;
  return actions;
}

SessionActions WorkerSession::OnMessage(const v1::WorkerUp& message, absl::Time now) {
  if (stream_ == Stream::kSilent) return {};  // refused or superseded; what was under way is void
  if (message.has_hello() != (stream_ == Stream::kGreeting)) {
    return Refuse(message.has_hello() ? "a second Hello on one stream" : "the first message must be Hello");
  }
  if (message.has_hello()) {
    received_ = acknowledged_ = message.sequence();  // whether the greeting is counted or not
    return OnHello(message.hello(), message.sequence(), now);
  }
  SessionActions actions;
  Renew(now, actions);
  if (message.sequence() != 0) {
    if (message.sequence() <= received_) return actions;  // came twice; the first is on its way
    if (message.sequence() != received_ + 1) {
      actions.push_back(CloseStream{absl::DataLossError(
          absl::StrCat("message ", received_ + 1, " is missing before ", message.sequence(), "; dial again"))});
      stream_ = Stream::kSilent;
      return actions;
    }
    received_ = message.sequence();
    unacknowledged_.push_back({message.sequence()});
  }
  switch (message.message_case()) {
    case v1::WorkerUp::kHeartbeat: {
      if (message.heartbeat().devices_size() > 0) {
        *worker_.mutable_inventory()->mutable_devices() = message.heartbeat().devices();
      }
      if (stream_ != Stream::kReady) break;
      v1::WorkerDown down;
      down.mutable_lease();
      Send(std::move(down), actions);
      break;
    }
    case v1::WorkerUp::kAttempt:
      OnAttempt(message.attempt(), message.sequence(), now, actions);
      return actions;
    case v1::WorkerUp::kCheckpoint: {
      const v1::CheckpointWritten& written = message.checkpoint();
      const int64_t token = NewToken({.kind = Pending::Kind::kCheckpoint,
                                      .key = written.key(),
                                      .sequence = message.sequence(),
                                      .step = written.manifest().step()});
      actions.push_back(ChangeJob{token, written.key(), CheckpointStored{written.key().epoch(), written.manifest()}});
      return actions;
    }
    case v1::WorkerUp::kProgress:
      if (Find(message.progress().key()) == nullptr) TellOverOnce(message.progress().key(), actions);
      actions.push_back(
          KeepPoints{NewToken({.kind = Pending::Kind::kKept, .sequence = message.sequence()}), message.progress()});
      return actions;
    case v1::WorkerUp::kLog:
      // Also of an attempt that is over: its last words explain why.
      actions.push_back(
          KeepLog{NewToken({.kind = Pending::Kind::kKept, .sequence = message.sequence()}), message.log()});
      return actions;
    default:
      break;  // a newer worker's message: it can do without an answer, or the protocol range would say so
  }
  if (message.sequence() != 0) Acknowledge(message.sequence(), actions);
  return actions;
}

void WorkerSession::OnAttempt(const v1::AttemptEvent& event, int64_t sequence, absl::Time now,
                              SessionActions& actions) {
  // Not where it was handed back before the greeting: that may have been an agent that has ended since.
  if (event.state() == v1::ATTEMPT_PREEMPTED && event.reason() == v1::WORKER_DRAINED &&
      ended_at_hello_.count(event.key().epoch()) == 0) {
    draining_ = true;
  }
  Tracked* attempt = Find(event.key());
  if (attempt != nullptr && IsLive(event.state()) && event.state() != v1::ATTEMPT_UNKNOWN) {
    attempt->state = event.state();
  }
  const int64_t token = NewToken({.kind = Pending::Kind::kAttempt, .key = event.key(), .sequence = sequence});
  actions.push_back(ChangeJob{token, event.key(), ToEvent(event, now)});
}

absl::Status WorkerSession::Check(const v1::Hello& hello) const {
  const std::string differ = ProtocolsDiffer("this controller", kMinProtocol, kMaxProtocol, "the worker",
                                             hello.min_protocol(), hello.max_protocol());
  if (!differ.empty()) return absl::FailedPreconditionError(differ);
  if (hello.incarnation() < worker_.incarnation()) {
    return absl::FailedPreconditionError(
        absl::StrCat("worker ", worker_.id(), " has been started again since (incarnation ", worker_.incarnation(),
                     ", this one is ", hello.incarnation(), "): two agents must not share a state folder"));
  }
  return absl::OkStatus();
}

SessionActions WorkerSession::OnHello(const v1::Hello& hello, int64_t sequence, absl::Time now) {
  if (const absl::Status status = Check(hello); !status.ok()) return Refuse(std::string(status.message()));
  SessionActions actions;
  last_heard_ = now;
  const bool known = !worker_.boot_id().empty();
  const bool new_boot = known && hello.boot_id() != worker_.boot_id();
  const bool same_incarnation = !new_boot && known && hello.incarnation() == worker_.incarnation();
  protocol_ = std::min(kMaxProtocol, hello.max_protocol());
  worker_.set_incarnation(hello.incarnation());
  worker_.set_boot_id(hello.boot_id());
  worker_.set_version(hello.version());
  *worker_.mutable_inventory() = hello.inventory();
  *worker_.mutable_shared_roots() = hello.shared_roots();
  *worker_.mutable_last_seen() = TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(now));
  stream_ = Stream::kStoring;
  draining_ = false;
  Reconcile(hello, same_incarnation, new_boot, now, actions);
  const int64_t token = NewToken({.kind = Pending::Kind::kHello});
  actions.push_back(SaveWorker{token, worker_});
  return actions;
}

void WorkerSession::Reconcile(const v1::Hello& hello, bool same_incarnation, bool new_boot, absl::Time now,
                              SessionActions& actions) {
  std::map<int64_t, v1::AttemptState> listed;  // by epoch
  for (const v1::RunningAttempt& running : hello.attempts()) {
    const v1::AttemptState state = running.state();
    if (!IsLive(state)) ended_at_hello_.insert(running.key().epoch());
    Tracked* attempt = Find(running.key());
    // What was running before a boot is dead, whatever the journal says.
    if (attempt == nullptr || (new_boot && IsLive(state))) {
      over_at_hello_.push_back(running.key());
    } else {
      listed[running.key().epoch()] = state;
      listed_.insert(running.key().epoch());
    }
  }
  for (auto& [job_id, attempt] : attempts_) {
    const v1::AttemptKey& key = attempt.assign.key();
    const auto found = listed.find(key.epoch());
    if (found != listed.end()) {
      attempt.accounted = true;
      attempt.renewed = now;
      if (IsLive(found->second) && found->second != v1::ATTEMPT_UNKNOWN) attempt.state = found->second;
      if (attempt.unknown) {
        attempt.unknown = false;
        actions.push_back(ChangeJob{NewToken({.kind = Pending::Kind::kContact, .key = key}), key,
                                    ContactRegained{key.epoch(), attempt.state}});
      }
      continue;
    }
    // A worker writes an attempt down before it starts anything: one that it had told of and lists no more is gone.
    const bool had_told = same_incarnation && attempt.accounted;
    const bool dead = had_told || new_boot || hello.earlier_ranks_dead();
    const bool never_started = attempt.state == v1::ATTEMPT_ASSIGNED && (dead || same_incarnation);
    attempt.accounted = dead || never_started;
    if (never_started) {
      attempt.renewed = now;  // sent again when ready
      continue;
    }
    if (!dead) continue;  // its ranks may run on without an agent: the fence decides
    const std::string why = new_boot           ? "the machine was started anew"
                            : same_incarnation ? "the worker knows nothing of it any more"
                                               : "the agent was started anew and its earlier ranks are dead";
    GiveUp(attempt, /*fenced=*/false, absl::StrCat("worker ", worker_.id(), ": ", why), now, actions);
  }
}

void WorkerSession::BecomeReady(SessionActions& actions) {
  stream_ = Stream::kReady;
  v1::WorkerDown down;
  v1::Welcome& welcome = *down.mutable_welcome();
  welcome.set_protocol(protocol_);
  welcome.set_controller_version(options_.version);
  welcome.set_lost_after_seconds(absl::ToDoubleSeconds(options_.lost_after));
  welcome.set_heartbeat_seconds(absl::ToDoubleSeconds(options_.heartbeat));
  welcome.set_transfer_address(options_.transfer_address);
  Send(std::move(down), actions);
  for (const v1::AttemptKey& key : over_at_hello_) TellOverOnce(key, actions);
  over_at_hello_.clear();
  for (auto& [job_id, attempt] : attempts_) {
    if (!attempt.accounted || attempt.given_up) continue;
    const bool listed = listed_.count(attempt.assign.key().epoch()) > 0;
    v1::WorkerDown again;
    if (!listed) {
      *again.mutable_assign() = attempt.assign;
      Send(std::move(again), actions);
    } else if (attempt.recorded_step > 0) {
      *again.mutable_recorded()->mutable_key() = attempt.assign.key();
      again.mutable_recorded()->set_step(attempt.recorded_step);
      Send(std::move(again), actions);
    }
    if (attempt.stop) {
      v1::WorkerDown stop;
      *stop.mutable_stop() = *attempt.stop;
      Send(std::move(stop), actions);
    }
  }
  actions.push_back(Replan{});
}

SessionActions WorkerSession::OnStored(int64_t token, StoreOutcome outcome) {
  SessionActions actions;
  const auto found = pending_.find(token);
  if (found == pending_.end()) return actions;
  const Pending pending = found->second;
  pending_.erase(found);
  const bool this_stream = pending.stream == stream_number_ && stream_ != Stream::kSilent;
  if (pending.kind == Pending::Kind::kHello) {
    if (this_stream) BecomeReady(actions);
    return actions;
  }
  if (pending.kind == Pending::Kind::kCheckpoint && outcome == StoreOutcome::kStored) {
    if (Tracked* attempt = Find(pending.key); attempt != nullptr) {
      attempt->recorded_step = std::max(attempt->recorded_step, pending.step);
    }
    if (this_stream && stream_ == Stream::kReady) {
      v1::WorkerDown down;
      *down.mutable_recorded()->mutable_key() = pending.key;
      down.mutable_recorded()->set_step(pending.step);
      Send(std::move(down), actions);
    }
  }
  if (!this_stream) return actions;
  if (outcome == StoreOutcome::kStale || pending.kind == Pending::Kind::kGiveUp) TellOverOnce(pending.key, actions);
  if (pending.sequence > 0) Acknowledge(pending.sequence, actions);
  return actions;
}

void WorkerSession::Acknowledge(int64_t sequence, SessionActions& actions) {
  for (Unacknowledged& waiting : unacknowledged_) {
    if (waiting.sequence == sequence) waiting.settled = true;
  }
  const int64_t before = acknowledged_;
  while (!unacknowledged_.empty() && unacknowledged_.front().settled) {
    acknowledged_ = unacknowledged_.front().sequence;
    unacknowledged_.pop_front();
  }
  if (acknowledged_ == before || stream_ != Stream::kReady) return;  // Welcome will carry it
  v1::WorkerDown down;
  down.set_acknowledged(acknowledged_);
  actions.push_back(SendDown{std::move(down)});
}

void WorkerSession::Renew(absl::Time now, SessionActions& actions) {
  last_heard_ = now;
  *worker_.mutable_last_seen() = TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(now));
  if (quiet_) {
    quiet_ = false;
    actions.push_back(Replan{});
  }
  for (auto& [job_id, attempt] : attempts_) {
    if (!attempt.accounted || attempt.given_up) continue;
    attempt.renewed = now;
    if (!attempt.unknown) continue;
    attempt.unknown = false;
    const v1::AttemptKey& key = attempt.assign.key();
    actions.push_back(ChangeJob{NewToken({.kind = Pending::Kind::kContact, .key = key}), key,
                                ContactRegained{key.epoch(), attempt.state}});
  }
}

SessionActions WorkerSession::OnTick(absl::Time now) {
  SessionActions actions;
  if (stream_ != Stream::kSilent && !quiet_ && now >= last_heard_ + options_.lost_after) {
    quiet_ = true;
    actions.push_back(Replan{});
  }
  for (auto& [job_id, attempt] : attempts_) {
    if (attempt.given_up) continue;
    const v1::AttemptKey& key = attempt.assign.key();
    const absl::Time lost = attempt.renewed + options_.lost_after;
    if (now >= lost + attempt.fence) {
      GiveUp(attempt, /*fenced=*/true,
             absl::StrCat("worker ", worker_.id(), " was out of contact for longer than the fence of ",
                          absl::FormatDuration(attempt.fence)),
             now, actions);
    } else if (now >= lost && !attempt.unknown) {
      attempt.unknown = true;
      actions.push_back(ChangeJob{
          NewToken({.kind = Pending::Kind::kContact, .key = key}), key,
          ContactLost{key.epoch(), absl::StrCat("worker ", worker_.id(), " is out of contact; ",
                                                "a new attempt may start in ", absl::FormatDuration(attempt.fence))}});
    }
  }
  return actions;
}

SessionActions WorkerSession::ConfirmDead(const std::string& who, absl::Time now) {
  STUDIO_CHECK(!connected()) << worker_.id();
  SessionActions actions;
  for (auto& [job_id, attempt] : attempts_) {
    if (attempt.given_up) continue;
    GiveUp(attempt, /*fenced=*/false, absl::StrCat("worker ", worker_.id(), ": ", who, " confirmed that it is dead"),
           now, actions);
  }
  return actions;
}

void WorkerSession::RenewAll(absl::Time now) {
  last_heard_ = now;
  for (auto& [job_id, attempt] : attempts_) attempt.renewed = now;
}

absl::Time WorkerSession::NextDeadline() const {
  absl::Time next = absl::InfiniteFuture();
  if (stream_ != Stream::kSilent && !quiet_) next = last_heard_ + options_.lost_after;
  for (const auto& [job_id, attempt] : attempts_) {
    if (attempt.given_up) continue;
    const absl::Time lost = attempt.renewed + options_.lost_after;
    next = std::min(next, attempt.unknown ? lost + attempt.fence : lost);
  }
  return next;
}

void WorkerSession::GiveUp(Tracked& attempt, bool fenced, const std::string& why, absl::Time now,
                           SessionActions& actions) {
  attempt.given_up = true;
  const v1::AttemptKey& key = attempt.assign.key();
  const int64_t token = NewToken({.kind = Pending::Kind::kGiveUp, .key = key});
  actions.push_back(ChangeJob{token, key, GivenUp{key.epoch(), fenced, v1::NODE_LOST, why, now}});
}

void WorkerSession::TellOverOnce(const v1::AttemptKey& key, SessionActions& actions) {
  // Before Welcome nothing may be sent: the greeting's own list is told then.
  if (stream_ != Stream::kReady) return over_at_hello_.push_back(key);
  if (!told_over_.insert(key.epoch()).second) return;
  v1::WorkerDown down;
  *down.mutable_epoch_over() = key;
  Send(std::move(down), actions);
}

void WorkerSession::Send(v1::WorkerDown message, SessionActions& actions) {
  const bool may_be_lost = message.has_lease() || message.has_welcome() || message.has_refused();
  if (!may_be_lost) message.set_sequence(++sent_);
  message.set_acknowledged(acknowledged_);
  actions.push_back(SendDown{std::move(message)});
}

WorkerSession::Tracked* WorkerSession::Find(const v1::AttemptKey& key) {
  const auto found = attempts_.find(key.job_id());
  if (found == attempts_.end() || found->second.assign.key().epoch() != key.epoch()) return nullptr;
  return &found->second;
}

int64_t WorkerSession::NewToken(Pending pending) {
  pending.stream = stream_number_;
  pending_[next_token_] = std::move(pending);
  return next_token_++;
}

v1::WorkerRecord WorkerSession::Describe() const {
  v1::WorkerRecord record = worker_;
  record.set_connected(connected());
  record.clear_job_ids();
  for (const auto& [job_id, attempt] : attempts_) record.add_job_ids(job_id);
  return record;
}

}  // namespace studio::controller
