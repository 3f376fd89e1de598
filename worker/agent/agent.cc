#include "worker/agent/agent.h"

#include <google/protobuf/util/time_util.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/status/check.h"

namespace studio::worker {
namespace {

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

// Far above what an attempt says in a day.
constexpr size_t kMaxEvents = 10'000;

bool IsEnd(v1::AttemptState state) { return state >= v1::ATTEMPT_SUCCEEDED; }

WorkerSession::Options SessionOptions(const v1::Hello& hello, uint64_t seed, const Journal& journal) {
  WorkerSession::Options options;
  options.hello = hello;
  options.seed = seed;
  options.last_event_id = journal.recovered().last_event_id;
  return options;
}

}  // namespace

Agent::Agent(Options options, Machine machine, Journal& journal, const ControllerLink::Maker& make_link)
    : options_(std::move(options)),
      machine_(std::move(machine)),
      journal_(journal),
      session_(SessionOptions(options_.hello, options_.seed, journal)),
      link_(make_link({[this](const v1::WorkerDown& down) { Do(session_.OnMessage(down, machine_.loop.now())); },
                       [this](const absl::Status& why) {
                         spdlog::info("session: {}", why.ToString());
                         Do(session_.OnDisconnected(why, machine_.loop.now()));
                       }})) {
  for (const auto& [id, message] : journal_.recovered().events) {
    session_.Restore(id, message);
    if (message.has_attempt() && IsEnd(message.attempt().state())) {
      ended_[id].set_state(message.attempt().state());
      *ended_[id].mutable_key() = message.attempt().key();
    }
  }
}

Agent::~Agent() {
  for (const auto& [unused, run] : attempts_) run->EndNow();
}

void Agent::Start() {
  for (const auto& [id, assign] : journal_.recovered().attempts) {
    EndDead(id, assign.key());
    if (ending_) return;
  }
  (void)machine_.env.RemoveAll(absl::StrCat(machine_.state_dir, "/attempts"));
  UpdateHello();
  Tick();
}

// The attempt died with the earlier incarnation. Hello, which does not list it, would say so and end it at the
// controller before the events that are still to be told, a checkpoint among them, arrive: where there are any, its end
// comes after them as one more, and Hello lists it with that end. Where there are none, nothing is lost, and what never
// started is assigned again.
void Agent::EndDead(const AttemptId& id, const v1::AttemptKey& key) {
  const auto speaks_of_it = [&](const auto& event) {
    const v1::WorkerUp& message = event.second;
    return IdOf(message.has_checkpoint() ? message.checkpoint().key() : message.attempt().key()) == id;
  };
  const auto is_it = [&](const auto& ended) { return IdOf(ended.second.key()) == id; };
  const auto& events = journal_.recovered().events;
  if (std::any_of(events.begin(), events.end(), speaks_of_it) && std::none_of(ended_.begin(), ended_.end(), is_it)) {
    v1::AttemptEvent event;
    *event.mutable_key() = key;
    event.set_state(v1::ATTEMPT_FAILED);
    event.set_reason(v1::NODE_LOST);
    event.set_message(
        absl::StrCat("worker ", machine_.worker_id, ": the agent was started anew and its earlier ranks are dead"));
    event.set_failed_rank(-1);
    *event.mutable_time() =
        google::protobuf::util::TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(machine_.loop.wall_time()));
    OnAttemptEvent(std::move(event));
    if (ending_) return;
  }
  JournalRecord record;
  *record.mutable_ended() = key;
  Record(record);
}

void Agent::Do(SessionActions actions) {
  std::move(actions.begin(), actions.end(), std::back_inserter(actions_));
  if (doing_) return;
  doing_ = true;
  // Once it ends, nothing more is said: what could not be journalled must not be sent.
  while (!actions_.empty() && !ending_) {
    SessionAction action = std::move(actions_.front());
    actions_.pop_front();
    DoOne(action);
  }
  doing_ = false;
  StopThoseAlone();
  HoldOutputOfRanks();
  SetTimer();
  MaybeDrained();
}

void Agent::DoOne(SessionAction& action) {
  std::visit(Overloaded{
                 [&](const Dial&) { link_->Dial(); },
                 [&](const HangUp& hang_up) {
                   spdlog::warn("session: {}", hang_up.why);
                   link_->HangUp();
                 },
                 [&](Send& send) { link_->Send(std::move(send.message)); },
                 [&](Store& store) {
                   JournalRecord record;
                   record.mutable_event()->set_id(store.id);
                   *record.mutable_event()->mutable_message() = std::move(store.message);
                   Record(record);
                   Do(session_.OnStored(store.id, machine_.loop.now()));
                 },
                 [&](const Forget& forget) {
                   JournalRecord record;
                   record.set_acknowledged(forget.id);
                   // Not synced: an event that comes twice changes nothing.
                   if (const absl::Status status = journal_.Append(record); !status.ok()) Fail(status);
                   if (ended_.erase(forget.id) > 0) UpdateHello();
                 },
                 [&](const Deliver& deliver) {
                   Handle(deliver.message);
                   Do(session_.OnHandled(deliver.message.sequence(), machine_.loop.now()));
                 },
                 [&](const GiveUp& give_up) { End(absl::FailedPreconditionError(give_up.why)); },
             },
             action);
}

void Agent::Record(const JournalRecord& record) {
  absl::Status status = journal_.Append(record);
  if (status.ok()) status = journal_.Sync();
  // Without a journal nothing may be promised any more. Ranks end with this process, and the controller knows by its
  // next incarnation.
  if (!status.ok()) Fail(status);
}

void Agent::Fail(const absl::Status& why) {
  End(absl::Status(why.code(), absl::StrCat(why.message(), "; see to the disk, then start this worker again")));
}

void Agent::Handle(const v1::WorkerDown& down) {
  switch (down.message_case()) {
    case v1::WorkerDown::kWelcome: {
      spdlog::info("session open with controller {}", down.welcome().controller_version());
      machine_.artifacts.SetAddress(down.welcome().transfer_address());
      break;
    }
    case v1::WorkerDown::kAssign:
      HandleAssign(down.assign());
      break;
    case v1::WorkerDown::kStop:
      if (AttemptRun* run = Find(down.stop().key()); run != nullptr) {
        run->Stop(down.stop().stop(), absl::Seconds(down.stop().grace_seconds()));
      }
      break;
    case v1::WorkerDown::kEpochOver:
      waiting_.erase(IdOf(down.epoch_over()));
      if (AttemptRun* run = Find(down.epoch_over()); run != nullptr) run->EndNow();
      break;
    case v1::WorkerDown::kRecorded:
      if (AttemptRun* run = Find(down.recorded().key()); run != nullptr) run->OnRecorded(down.recorded().step());
      break;
    default:
      break;  // of a later version
  }
}

void Agent::HandleAssign(const v1::Assign& assign) {
  const AttemptId id = IdOf(assign.key());
  const auto ended = [&](const auto& entry) { return IdOf(entry.second.key()) == id; };
  if (attempts_.count(id) > 0 || waiting_.count(id) > 0 || std::any_of(ended_.begin(), ended_.end(), ended)) return;
  JournalRecord record;
  *record.mutable_assigned() = assign;
  Record(record);
  if (ending_) return;
  if (draining_) {
    v1::AttemptEvent event;
    *event.mutable_key() = assign.key();
    event.set_state(v1::ATTEMPT_PREEMPTED);
    event.set_reason(v1::WORKER_DRAINED);
    event.set_failed_rank(-1);
    OnAttemptEvent(std::move(event));
    return;
  }
  // A job never runs twice at the same time: what is left of an older epoch dies first.
  bool busy = false;
  for (const auto& [other, run] : attempts_) {
    if (run->key().job_id() != assign.key().job_id()) continue;
    busy = true;
    run->EndNow();
  }
  if (busy) {
    waiting_[id] = assign;
  } else {
    StartAttempt(assign);
  }
}

void Agent::StartAttempt(const v1::Assign& assign) {
  spdlog::info("job {} attempt {} (epoch {}) starts{}", assign.key().job_id(), assign.key().attempt(),
               assign.key().epoch(),
               assign.has_checkpoint() ? absl::StrCat(" from step ", assign.checkpoint().step()) : "");
  const auto run = std::make_shared<AttemptRun>(machine_, assign, *this);
  attempts_[IdOf(assign.key())] = run;
  run->Start();
}

AttemptRun* Agent::Find(const v1::AttemptKey& key) {
  const auto found = attempts_.find(IdOf(key));
  return found == attempts_.end() ? nullptr : found->second.get();
}

void Agent::OnAttemptEvent(v1::AttemptEvent event) {
  // States are never dropped; what a long absence piles up beside them is.
  if (event.evaluations_size() + event.samples_size() > 0 && session_.unacknowledged_events() > kMaxEvents) {
    ++left_out_;
    return;
  }
  v1::WorkerUp up;
  const v1::AttemptKey key = event.key();
  const v1::AttemptState state = event.state();
  const v1::Reason reason = event.reason();
  *up.mutable_attempt() = std::move(event);
  SessionActions actions = session_.Report(std::move(up));
  if (IsEnd(state)) {
    ++ends_[{state, reason}];
    v1::RunningAttempt& ended = ended_[std::get<Store>(actions.front()).id];
    *ended.mutable_key() = key;
    ended.set_state(state);
  }
  UpdateHello();
  Do(std::move(actions));
}

void Agent::OnCheckpointWritten(v1::CheckpointWritten written) {
  v1::WorkerUp up;
  *up.mutable_checkpoint() = std::move(written);
  Do(session_.Report(std::move(up)));
}

void Agent::OnProgress(v1::ProgressReport report) {
  v1::WorkerUp up;
  *up.mutable_progress() = std::move(report);
  Do(session_.ReportBuffered(std::move(up), machine_.loop.now()));
}

void Agent::OnLog(v1::LogChunk chunk) {
  v1::WorkerUp up;
  *up.mutable_log() = std::move(chunk);
  Do(session_.ReportBuffered(std::move(up), machine_.loop.now()));
}

void Agent::OnEnded(const v1::AttemptKey& key) {
  // Not from within the attempt's own call.
  machine_.loop.Post([this, key] {
    JournalRecord record;
    *record.mutable_ended() = key;
    Record(record);
    if (ending_) return;
    attempts_.erase(IdOf(key));
    (void)machine_.env.RemoveAll(AttemptDir(machine_.state_dir, key));
    UpdateHello();
    const auto next = std::find_if(waiting_.begin(), waiting_.end(),
                                   [&](const auto& entry) { return entry.second.key().job_id() == key.job_id(); });
    if (next != waiting_.end()) {
      const v1::Assign assign = next->second;
      waiting_.erase(next);
      StartAttempt(assign);
    }
    MaybeDrained();
  });
}

CacheUse Agent::InUse() const {
  CacheUse use;
  for (const auto& [unused, run] : attempts_) run->AddUse(use);
  return use;
}

void Agent::Describe(MetricsText& text) const {
  std::map<v1::AttemptState, int> ranks;
  for (const auto& [unused, run] : attempts_) {
    if (run->over()) continue;
    for (const v1::RankAssignment& rank : run->assign().ranks()) {
      ranks[run->state()] += rank.worker_id() == machine_.worker_id ? 1 : 0;
    }
  }
  for (const v1::AttemptState state : {v1::ATTEMPT_PREPARING, v1::ATTEMPT_STARTING, v1::ATTEMPT_RUNNING}) {
    text.Gauge("studio_worker_ranks", "Ranks of this worker, by the state of their attempt.",
               {{"state", v1::AttemptState_Name(state)}}, ranks[state]);
  }
  for (const auto& [end, times] : ends_) {
    text.Counter("studio_worker_attempts_ended_total", "Attempts that ended here, by how and why.",
                 {{"state", v1::AttemptState_Name(end.first)}, {"reason", v1::Reason_Name(end.second)}}, times);
  }
  text.Gauge("studio_worker_connected", "1 while a controller is in contact.", {}, session_.open() ? 1 : 0);
  text.Counter("studio_worker_dials_total", "Streams dialled; the first is no reconnect.", {}, session_.dials());
  text.Gauge("studio_worker_unacknowledged", "Events and messages that no controller has acknowledged.", {},
             static_cast<double>(session_.unacknowledged()));
  text.Counter("studio_worker_dropped_messages_total", "Log chunks and metric points dropped for want of room.", {},
               session_.dropped());
  text.Counter("studio_worker_left_out_total", "Evaluations and samples dropped for want of room.", {}, left_out_);
  text.Gauge("studio_worker_output_held", "1 while ranks wait with their output for a slow controller.", {},
             held_ ? 1 : 0);
  text.Gauge("studio_worker_journal_bytes", "Size of the journal.", {}, static_cast<double>(journal_.bytes()));
}

void Agent::UpdateHello() {
  std::vector<v1::RunningAttempt> attempts;
  const auto add = [&](const v1::AttemptKey& key, v1::AttemptState state) {
    attempts.emplace_back();
    *attempts.back().mutable_key() = key;
    attempts.back().set_state(state);
  };
  for (const auto& [unused, run] : attempts_) {
    if (!run->over()) add(run->key(), run->state());
  }
  for (const auto& [unused, assign] : waiting_) add(assign.key(), v1::ATTEMPT_ASSIGNED);
  for (const auto& [unused, ended] : ended_) add(ended.key(), ended.state());
  session_.SetAttempts(std::move(attempts));
}

void Agent::SetTimer() {
  machine_.loop.Cancel(timer_);
  timer_ = machine_.loop.At(session_.next_tick(), [this] { Tick(); });
}

void Agent::Tick() { Do(session_.OnTick(machine_.loop.now())); }

// Where a controller is there and slow, its pace is the ranks'. While it is away they go on, and the oldest is dropped.
void Agent::HoldOutputOfRanks() {
  const bool hold = session_.congested(held_);
  if (!hold && !held_) return;
  held_ = hold;
  for (const auto& [unused, run] : attempts_) run->HoldOutput(hold);
}

// Alone is who dialled in vain after the time was up: an agent that stood still, or whose machine slept, asks first.
void Agent::StopThoseAlone() {
  if (session_.last_contact() == absl::InfinitePast()) return;
  for (const auto& [unused, run] : attempts_) {
    const absl::Duration limit = absl::Seconds(run->assign().job().retry().max_alone_seconds());
    if (limit <= absl::ZeroDuration() || run->stopping()) continue;
    if (session_.last_vain_dial() < session_.last_contact() + limit) continue;
    v1::Stop stop;
    stop.set_reason(v1::NODE_LOST);
    run->Stop(stop, options_.drain_grace);
  }
}

void Agent::Drain() {
  if (draining_) return End(absl::OkStatus());
  spdlog::info("draining: {} attempts hand back at a checkpoint", attempts_.size());
  draining_ = true;
  v1::Stop stop;
  stop.set_reason(v1::WORKER_DRAINED);
  for (const auto& [unused, run] : attempts_) run->Stop(stop, options_.drain_grace);
  // Without a controller nobody acknowledges: the journal keeps what is to be said.
  machine_.loop.At(machine_.loop.now() + options_.drain_grace + absl::Seconds(10), [this] { End(absl::OkStatus()); });
  MaybeDrained();
}

void Agent::MaybeDrained() {
  if (!draining_ || !attempts_.empty() || !waiting_.empty()) return;
  // Buffered messages may be lost; ends should be known before this worker is gone, if a controller is there.
  if (session_.open() && !ended_.empty()) return;
  End(absl::OkStatus());
}

void Agent::End(absl::Status outcome) {
  if (ending_) return;
  ending_ = true;
  if (!outcome.ok()) spdlog::error("stopping: {}", outcome.ToString());
  outcome_ = std::move(outcome);
  machine_.loop.Stop();
}

}  // namespace studio::worker
