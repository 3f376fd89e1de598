#include "worker/session/worker_session.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"
#include "common/version/version.h"

namespace studio::worker {
namespace {

absl::Duration SecondsOr(double seconds, double fallback) { return absl::Seconds(seconds > 0 ? seconds : fallback); }

}  // namespace

WorkerSession::WorkerSession(Options options)
    : options_(std::move(options)), random_(options_.seed), next_id_(options_.last_event_id + 1) {}

void WorkerSession::Restore(int64_t id, v1::WorkerUp message) {
  STUDIO_CHECK(state_ == State::kAway && id < next_id_) << "event " << id << " of " << next_id_ - 1;
  events_.push_back({id, std::move(message), 0, /*stored=*/true, next_arrival_++, 0});
}

void WorkerSession::SetAttempts(std::vector<v1::RunningAttempt> attempts) {
  options_.hello.clear_attempts();
  for (v1::RunningAttempt& attempt : attempts) *options_.hello.add_attempts() = std::move(attempt);
}

SessionActions WorkerSession::Report(v1::WorkerUp message) {
  const int64_t id = next_id_++;
  events_.push_back({id, message, 0, /*stored=*/false, next_arrival_++, 0});
  return {Store{id, std::move(message)}};
}

SessionActions WorkerSession::OnStored(int64_t id, absl::Time now) {
  const auto entry = std::find_if(events_.begin(), events_.end(), [&](const Entry& e) { return e.id == id; });
  STUDIO_CHECK(entry != events_.end() && !entry->stored) << "event " << id;
  entry->stored = true;
  SessionActions actions;
  Pump(actions, now);
  return actions;
}

SessionActions WorkerSession::ReportBuffered(v1::WorkerUp message, absl::Time now) {
  const auto bytes = static_cast<int64_t>(message.ByteSizeLong());
  buffered_bytes_ += bytes;
  buffered_.push_back({0, std::move(message), bytes, /*stored=*/true, next_arrival_++, 0});
  SessionActions actions;
  Pump(actions, now);
  DropBeyondLimit();
  return actions;
}

void WorkerSession::DropBeyondLimit() {
  while (buffered_bytes_ > options_.max_buffered_bytes && !buffered_.empty()) {
    buffered_bytes_ -= buffered_.front().bytes;
    buffered_.pop_front();
    ++dropped_;
  }
}

size_t WorkerSession::unacknowledged_events() const {
  const auto sent = std::count_if(sent_.begin(), sent_.end(), [](const Entry& entry) { return entry.id != 0; });
  return events_.size() + static_cast<size_t>(sent);
}

void WorkerSession::TakeBackSent() {
  for (; !sent_.empty(); sent_.pop_back()) {
    Entry& entry = sent_.back();
    entry.sequence = 0;
    buffered_bytes_ += entry.bytes;
    (entry.id != 0 ? events_ : buffered_).push_front(std::move(entry));
  }
  in_flight_bytes_ = in_flight_ = 0;
  DropBeyondLimit();
}

SessionActions WorkerSession::OnMessage(const v1::WorkerDown& message, absl::Time now) {
  if (state_ != State::kGreeting && state_ != State::kOpen) return {};
  last_contact_ = now;
  last_vain_dial_ = absl::InfinitePast();
  if (message.has_refused()) return OnRefused(message.refused(), now);
  SessionActions actions;
  Acknowledge(message.acknowledged(), actions);
  Pump(actions, now);
  if (message.sequence() != 0) {
    if (message.sequence() <= seen_sequence_) return actions;
    if (message.sequence() != seen_sequence_ + 1) {
      actions.push_back(HangUp{absl::StrCat("the controller's message ", message.sequence(), " came after ",
                                            seen_sequence_, ": one is missing")});
      GoAway(now, absl::ZeroDuration());
      return actions;
    }
    seen_sequence_ = message.sequence();
  }
  if (message.has_welcome()) {
    SessionActions more = OnWelcome(message.welcome(), now);
    std::move(more.begin(), more.end(), std::back_inserter(actions));
    if (state_ != State::kOpen) return actions;
  } else if (state_ == State::kGreeting) {
    actions.push_back(HangUp{"the controller spoke before its welcome"});
    GoAway(now, absl::ZeroDuration());
    return actions;
  }
  // Also a Welcome: its transfer address matters to the owner.
  if (message.message_case() != v1::WorkerDown::MESSAGE_NOT_SET && !message.has_lease()) {
    actions.push_back(Deliver{message});
  } else if (message.sequence() != 0) {
    handled_sequence_ = message.sequence();
  }
  return actions;
}

SessionActions WorkerSession::OnWelcome(const v1::Welcome& welcome, absl::Time now) {
  const std::string differ =
      ProtocolsDiffer("this worker", options_.hello.min_protocol(), options_.hello.max_protocol(),
                      absl::StrCat("the controller (version ", welcome.controller_version(), ")"), welcome.protocol(),
                      welcome.protocol());
  if (!differ.empty()) return OnRefused(differ, now);
  state_ = State::kOpen;
  failures_ = 0;
  heartbeat_interval_ = SecondsOr(welcome.heartbeat_seconds(), 5);
  silence_limit_ = SecondsOr(welcome.lost_after_seconds(), 15);
  next_heartbeat_ = now + heartbeat_interval_;
  SessionActions actions;
  Pump(actions, now);
  return actions;
}

SessionActions WorkerSession::OnRefused(const std::string& why, absl::Time now) {
  if (options_.hello.attempts().empty()) {
    state_ = State::kRefused;
    return {HangUp{why}, GiveUp{why}};
  }
  // Work is running here: a controller that is being upgraded must not end it.
  GoAway(now, options_.refused_backoff);
  return {HangUp{why}};
}

SessionActions WorkerSession::OnHandled(int64_t sequence, absl::Time now) {
  SessionActions actions;
  // A stream that ended meanwhile took its numbers along.
  if (state_ != State::kOpen || sequence == 0 || sequence > seen_sequence_) return actions;
  handled_sequence_ = std::max(handled_sequence_, sequence);
  // Usually the answer to the message carries it. Where nothing was said, say it alone.
  if (told_handled_ < handled_sequence_) SendNow(v1::WorkerUp(), actions, now);
  return actions;
}

SessionActions WorkerSession::OnDisconnected(const absl::Status& why, absl::Time now) {
  if (state_ == State::kGreeting || state_ == State::kOpen) GoAway(now, absl::ZeroDuration());
  return {};
}

SessionActions WorkerSession::OnTick(absl::Time now) {
  SessionActions actions;
  if (state_ == State::kAway && now >= next_dial_) {
    state_ = State::kGreeting;
    dialled_ = now;
    greeting_deadline_ = now + options_.greeting_timeout;
    sent_sequence_ = seen_sequence_ = handled_sequence_ = told_handled_ = 0;
    TakeBackSent();
    ++dials_;
    actions.push_back(Dial{});
    v1::WorkerUp up;
    *up.mutable_hello() = options_.hello;
    actions.push_back(Send{std::move(up)});
  } else if (state_ == State::kGreeting && now >= greeting_deadline_) {
    actions.push_back(HangUp{"no welcome from the controller"});
    GoAway(now, absl::ZeroDuration());
  } else if (state_ == State::kOpen && now >= last_contact_ + silence_limit_) {
    actions.push_back(HangUp{absl::StrCat("nothing from the controller for ", absl::FormatDuration(silence_limit_))});
    GoAway(now, absl::ZeroDuration());
  } else if (state_ == State::kOpen && now >= next_heartbeat_) {
    v1::WorkerUp up;
    up.mutable_heartbeat();
    SendNow(std::move(up), actions, now);
  }
  return actions;
}

absl::Time WorkerSession::next_tick() const {
  switch (state_) {
    case State::kAway:
      return next_dial_;
    case State::kGreeting:
      return greeting_deadline_;
    case State::kOpen:
      return std::min(next_heartbeat_, last_contact_ + silence_limit_);
    case State::kRefused:
      return absl::InfiniteFuture();
  }
  return absl::InfiniteFuture();
}

void WorkerSession::Acknowledge(int64_t sequence, SessionActions& actions) {
  for (; !sent_.empty() && sent_.front().sequence <= sequence; sent_.pop_front()) {
    if (sent_.front().id != 0) actions.push_back(Forget{sent_.front().id});
    if (sent_.front().id != 0) continue;
    in_flight_bytes_ -= sent_.front().bytes;
    --in_flight_;
  }
}

void WorkerSession::Pump(SessionActions& actions, absl::Time now) {
  while (state_ == State::kOpen) {
    const bool room = in_flight_ == 0 || (in_flight_ < options_.max_in_flight && !buffered_.empty() &&
                                          in_flight_bytes_ + buffered_.front().bytes <= options_.max_in_flight_bytes);
    // In order of arrival, but that an event does not wait for room; and never before it is durable.
    const bool buffered_first =
        !buffered_.empty() && (events_.empty() || buffered_.front().arrival < events_.front().arrival);
    std::deque<Entry>& queue = buffered_first && room ? buffered_ : events_;
    if (queue.empty() || !queue.front().stored) return;
    Entry& entry = sent_.emplace_back(std::move(queue.front()));
    queue.pop_front();
    entry.sequence = ++sent_sequence_;
    if (entry.id == 0) {
      buffered_bytes_ -= entry.bytes;
      in_flight_bytes_ += entry.bytes;
      ++in_flight_;
    }
    v1::WorkerUp up = entry.message;
    up.set_sequence(entry.sequence);
    SendNow(std::move(up), actions, now);
  }
}

void WorkerSession::SendNow(v1::WorkerUp message, SessionActions& actions, absl::Time now) {
  told_handled_ = handled_sequence_;
  message.set_acknowledged(handled_sequence_);
  if (message.has_heartbeat()) next_heartbeat_ = now + heartbeat_interval_;
  actions.push_back(Send{std::move(message)});
}

void WorkerSession::GoAway(absl::Time now, absl::Duration at_least) {
  if (last_contact_ < dialled_) last_vain_dial_ = dialled_;
  state_ = State::kAway;
  const absl::Duration limit = std::min(
      options_.max_backoff, options_.min_backoff * static_cast<int64_t>(uint64_t{1} << std::min(failures_, 20)));
  ++failures_;
  // Full of jitter in its upper half, so that a fleet does not come back in one moment. Drawn by hand: the standard
  // library's distributions differ between platforms.
  const double share = 0.5 + 0.5 * static_cast<double>(random_() >> 11) * 0x1.0p-53;
  next_dial_ = now + std::max(at_least, limit * share);
}

}  // namespace studio::worker
