#include "worker/agent/attempt_run.h"

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/time_util.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/artifact/uri.h"
#include "common/platform/asks.h"
#include "common/status/check.h"
#include "common/status/macros.h"
#include "worker/agent/local_job.h"

namespace studio::worker {
namespace {

// In the child; above the channel's.
constexpr int kLockFd = 4;
constexpr int kStoreFd = 5;
// Where a rank lost the others, so long may the one that it lost take to end and say why.
constexpr absl::Duration kCauseGrace = absl::Seconds(2);

std::string ToText(const google::protobuf::Message& message) {
  std::string text;
  STUDIO_CHECK(google::protobuf::TextFormat::PrintToString(message, &text));
  return text;
}

// Why bringing files here failed, as the retry policy understands it.
v1::Reason ReasonOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
      return v1::BAD_INPUT;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDataLoss:
      return v1::STORAGE;
    default:
      return v1::CRASH;
  }
}

v1::AttemptState StateOfStop(v1::Reason reason) {
  return reason == v1::CANCELLED_BY_USER ? v1::ATTEMPT_CANCELLED : v1::ATTEMPT_PREEMPTED;
}

}  // namespace

std::string AttemptDir(const std::string& state_dir, const v1::AttemptKey& key) {
  return absl::StrCat(state_dir, "/attempts/", key.job_id(), "-a", key.attempt(), "-e", key.epoch());
}

AttemptRun::AttemptRun(const Machine& machine, v1::Assign assign, AttemptListener& listener)
    : machine_(machine),
      assign_(std::move(assign)),
      listener_(listener),
      dir_(AttemptDir(machine.state_dir, assign_.key())) {}

void AttemptRun::AddUse(CacheUse& use) const {
  use.folders.insert(input_folders_.begin(), input_folders_.end());
  for (const v1::Input& input : assign_.inputs()) {
    for (const v1::FileRef& file : input.artifact().files()) use.blobs.insert(file.sha256());
  }
  for (const v1::CheckpointShard& shard : assign_.checkpoint().shards()) use.blobs.insert(shard.file().sha256());
  use.since = std::min(use.since, began_);
}

void AttemptRun::Start() {
  began_ = machine_.loop.wall_time();
  state_ = v1::ATTEMPT_PREPARING;
  v1::AttemptEvent event = NewEvent();
  for (const std::string& note : AutoFallbacks(assign_.job(), machine_.inventory)) event.add_notes(note);
  listener_.OnAttemptEvent(std::move(event));
  FetchInputs();
}

void AttemptRun::FetchInputs() {
  if (const absl::Status made = machine_.env.MakeFolders(OutDir()); !made.ok()) {
    return FailWith({v1::STORAGE, std::string(made.message())});
  }
  const std::vector<v1::Input> inputs(assign_.inputs().begin(), assign_.inputs().end());
  absl::StatusOr<LocalJob> local =
      PlanLocalJob(assign_.job(), inputs, absl::StrCat(machine_.state_dir, "/inputs"), machine_.shared_roots);
  if (!local.ok()) return FailWith({v1::BAD_INPUT, std::string(local.status().message())});
  local_job_ = std::move(local->job);
  for (const LocalJob::Fetch& fetch : local->fetches) input_folders_.push_back(fetch.folder);
  if (local->fetches.empty() && !assign_.has_checkpoint()) return StartDataPrep();

  if (assign_.has_checkpoint()) resume_dir_ = absl::StrCat(dir_, "/resume");
  machine_.background.Run([self = shared_from_this(), fetches = std::move(local->fetches)] {
    absl::Status status;
    for (const LocalJob::Fetch& fetch : fetches) {
      if (status.ok()) status = self->machine_.artifacts.Fetch(fetch.artifact, fetch.folder, *self->cancelled_);
    }
    std::string resume_dir = self->resume_dir_;
    if (status.ok() && self->assign_.has_checkpoint()) status = self->FetchCheckpoint(resume_dir);
    return [self, status] {
      if (self->over_ || self->stop_ || self->wordless_) return self->MaybeFinish();
      if (!status.ok()) return self->FailWith({ReasonOf(status), absl::StrCat("inputs: ", status.message())});
      self->StartDataPrep();
    };
  });
}

// On a thread of its own.
absl::Status AttemptRun::FetchCheckpoint(const std::string& resume_dir) {
  const v1::CheckpointManifest& manifest = assign_.checkpoint();
  v1::Artifact artifact;
  for (const v1::CheckpointShard& shard : manifest.shards()) *artifact.add_files() = shard.file();
  if (manifest.uri() == "studio:") {
    RETURN_IF_ERROR(machine_.artifacts.Fetch(artifact, resume_dir, *cancelled_));
  } else {
    // On a disk that this machine sees: link or copy would cost as much as reading it.
    ASSIGN_OR_RETURN(const Uri uri, ParseUri(manifest.uri()));
    if (uri.kind != Uri::Kind::kFile || (!manifest.worker_id().empty() && manifest.worker_id() != machine_.worker_id)) {
      return absl::InternalError(absl::StrCat("the checkpoint of step ", manifest.step(), " lies at ", manifest.uri(),
                                              " of worker ", manifest.worker_id(), ", which this one cannot read"));
    }
    RETURN_IF_ERROR(machine_.env.MakeFolders(resume_dir));
    for (const v1::CheckpointShard& shard : manifest.shards()) {
      RETURN_IF_ERROR(machine_.env.Link(absl::StrCat(uri.path, "/", shard.file().path()),
                                        absl::StrCat(resume_dir, "/", shard.file().path())));
    }
  }
  return machine_.env.WriteFile(absl::StrCat(resume_dir, "/manifest.pb.txt"), ToText(manifest));
}

absl::StatusOr<std::unique_ptr<RankProcess>> AttemptRun::Launch(const std::string& program, Rank& rank, bool is_rank) {
  v1::TrainerTask task;
  task.set_job_id(key().job_id());
  task.set_attempt(key().attempt());
  task.set_epoch(key().epoch());
  *task.mutable_job() = local_job_;
  *task.mutable_rank() = rank.assignment;
  task.set_world_size(assign_.ranks_size());
  *task.mutable_rendezvous() = rendezvous_;
  *task.mutable_plan() = assign_.plan();
  task.set_data_dir(absl::StrCat(machine_.state_dir, "/data"));
  task.set_out_dir(OutDir());
  task.set_resume_dir(resume_dir_);
  const std::string file = absl::StrCat(dir_, is_rank ? "/task-" : "/prepare-", rank.assignment.rank(), ".pb.txt");
  RETURN_IF_ERROR(machine_.env.MakeFolders(task.data_dir()));
  // Not synced: after a crash of the machine nobody reads it.
  ASSIGN_OR_RETURN(const std::unique_ptr<AppendFile> task_file, machine_.env.OpenAppend(file));
  RETURN_IF_ERROR(task_file->Append(ToText(task)));

  LaunchSpec spec;
  spec.argv = {program, "--task", file};
  spec.folder = dir_;
  if (machine_.ranks_lock_fd >= 0) spec.inherited = {{machine_.ranks_lock_fd, kLockFd}};
  int local_world_size = 0;
  for (const v1::RankAssignment& other : assign_.ranks()) local_world_size += other.worker_id() == machine_.worker_id;
  const bool alone = rendezvous_.address().empty();
  const bool serves_store = is_rank && store_.fd.valid() && rank.assignment.rank() == 0;
  if (serves_store) spec.inherited.push_back({store_.fd.get(), kStoreFd});
  // OpenMP's threads wait for each other asleep: spinning, they lose a core's slices to whatever else runs (14 steps of
  // SmolLM2 on two busy cores: 292 s spinning, 44 s asleep).
  const char* const wait_policy = std::getenv("OMP_WAIT_POLICY");
  spec.environment = EnvironmentWith({
      absl::StrCat("OMP_WAIT_POLICY=", wait_policy == nullptr ? "PASSIVE" : wait_policy),
      absl::StrCat("RANK=", rank.assignment.rank()),
      absl::StrCat("LOCAL_RANK=", rank.assignment.local_rank()),
      absl::StrCat("WORLD_SIZE=", assign_.ranks_size()),
      absl::StrCat("LOCAL_WORLD_SIZE=", local_world_size),
      absl::StrCat("MASTER_ADDR=", alone ? "127.0.0.1" : rendezvous_.address()),
      absl::StrCat("MASTER_PORT=", rendezvous_.port()),
      absl::StrCat("STUDIO_JOB_ID=", key().job_id()),
      absl::StrCat("STUDIO_ATTEMPT=", key().attempt()),
      absl::StrCat("STUDIO_AGENT_FD=", kChannelFd),
  });
  if (serves_store) spec.environment.push_back(absl::StrCat("STUDIO_STORE_FD=", kStoreFd));
  rank.evidence = {};
  rank.state = v1::ATTEMPT_STARTING;
  rank.evidence.rank = rank.assignment.rank();
  ASSIGN_OR_RETURN(
      std::unique_ptr<RankProcess> process,
      machine_.ranks.Launch(std::move(spec), {
                                                 [this, &rank](const v1::TrainerUp& up) { OnRankEvent(rank, up); },
                                                 [this, &rank](std::string_view bytes) { OnOutput(rank, bytes); },
                                                 [this, &rank, is_rank](const ProcessEnd& end) {
                                                   is_rank ? OnRankEnd(rank, end) : OnPrepEnd(rank, end);
                                                 },
                                             }));
  spdlog::info("job {} attempt {}: {} runs as process {}", key().job_id(), key().attempt(), program, process->pid());
  return process;
}

void AttemptRun::StartDataPrep() {
  for (const v1::RankAssignment& assignment : assign_.ranks()) {
    if (assignment.worker_id() != machine_.worker_id) continue;
    auto rank = std::make_unique<Rank>();
    rank->assignment = assignment;
    rank->log = std::make_unique<RankLog>(machine_.env, absl::StrCat(dir_, "/log-", assignment.rank(), ".txt"));
    ranks_.push_back(std::move(rank));
  }
  if (ranks_.empty()) {
    return FailWith({v1::CRASH, absl::StrCat("no rank is assigned to worker ", machine_.worker_id)});
  }
  if (machine_.dataprep.empty()) return StartRanks();
  Rank& first = *ranks_.front();
  absl::StatusOr<std::unique_ptr<RankProcess>> process = Launch(machine_.dataprep, first, /*is_rank=*/false);
  if (!process.ok()) return FailWith({v1::CRASH, std::string(process.status().message())});
  first.process = *std::move(process);
}

void AttemptRun::OnPrepEnd(Rank& rank, const ProcessEnd& end) {
  // It may say Finished or nothing: its exit code is its word.
  if (end == ProcessEnd{} && !rank.evidence.failure) rank.evidence.finished.emplace();
  Judge(rank, end, "data preparation");
  // Not from its own callback.
  machine_.loop.Post([self = shared_from_this(), &rank] {
    rank.process.reset();
    if (self->failed_ || self->stop_ || self->wordless_) return self->MaybeFinish();
    self->StartRanks();
  });
}

void AttemptRun::StartRanks() {
  ReportState(v1::ATTEMPT_STARTING);
  rendezvous_ = assign_.rendezvous();
  if (assign_.ranks_size() > 1 && rendezvous_.address().empty()) {
    absl::StatusOr<StoreSocket> store = machine_.ranks.ListenForStore();
    if (!store.ok()) return FailWith({v1::CRASH, std::string(store.status().message())});
    store_ = *std::move(store);
    rendezvous_.set_address("127.0.0.1");
    rendezvous_.set_port(store_.port);
  }
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    absl::StatusOr<std::unique_ptr<RankProcess>> process = Launch(machine_.trainer, *rank, /*is_rank=*/true);
    if (!process.ok()) {
      FailWith({v1::CRASH, std::string(process.status().message()), rank->assignment.rank()});
      return;
    }
    rank->process = *std::move(process);
  }
  store_ = {};
}

void AttemptRun::Judge(Rank& rank, const ProcessEnd& end, const std::string& what) {
  rank.evidence.end = end;
  const KillWatch::Signs signs = rank.process->KillSigns();
  rank.evidence.cgroup_kills_rose = signs.cgroup_kills_rose;
  rank.evidence.kernel_kill = signs.kernel_kill;
  rank.evidence.host_memory_bytes = machine_.inventory.host_memory_bytes();
  rank.evidence.last_words = rank.log->LastWords();
  const RankVerdict verdict = JudgeEnd(rank.evidence, what);
  if (verdict.reason == v1::REASON_UNSPECIFIED) {
    if (verdict.message.empty() || wordless_) return;
    v1::AttemptEvent event = NewEvent();
    event.add_notes(verdict.message);
    listener_.OnAttemptEvent(std::move(event));
    return;
  }
  spdlog::warn("job {} attempt {}: {}", key().job_id(), key().attempt(), verdict.message);
  // The first end is the cause, but for ranks that only lost another one and those that were killed for it.
  if (!failed_ || (failed_->lost_peers && !verdict.lost_peers && !killed_)) {
    failed_ = Failed{verdict.reason, verdict.message, rank.assignment.rank(), end, verdict.lost_peers};
  }
}

void AttemptRun::OnRankEnd(Rank& rank, const ProcessEnd& end) {
  rank.ended = true;
  Judge(rank, end, absl::StrCat("rank ", rank.assignment.rank()));
  if (failed_ && !failed_->lost_peers) {
    KillAll();  // the others would wait for it in a collective
  } else if (failed_) {
    machine_.loop.Cancel(cause_timer_);
    cause_timer_ = machine_.loop.At(machine_.loop.now() + kCauseGrace, [weak = weak_from_this()] {
      if (const std::shared_ptr<AttemptRun> self = weak.lock(); self != nullptr && !self->over_) self->KillAll();
    });
  }
  machine_.loop.Post([self = shared_from_this()] { self->MaybeFinish(); });
}

void AttemptRun::Stop(const v1::Stop& stop, absl::Duration grace) {
  if (over_ || wordless_) return;
  const bool first = !stop_.has_value();
  // A cancel overrules a hand-back that is under way, never the other way round.
  if (first || stop.reason() == v1::CANCELLED_BY_USER) stop_ = stop;
  v1::TrainerDown order;
  *order.mutable_stop() = stop;
  bool training = false;
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    if (rank->process == nullptr || rank->process->ended()) continue;
    if (state_ == v1::ATTEMPT_PREPARING) {
      rank->process->Kill(SIGKILL);  // prepared data is found again; what is half done is not
    } else {
      training = true;
      rank->process->Order(order);
    }
  }
  if (training) {
    machine_.loop.Cancel(grace_timer_);
    grace_timer_ = machine_.loop.At(machine_.loop.now() + grace, [weak = weak_from_this(), grace] {
      const std::shared_ptr<AttemptRun> self = weak.lock();
      if (self == nullptr || self->over_) return;
      self->stop_note_ = absl::StrCat("did not stop within ", absl::FormatDuration(grace), " and was killed");
      self->KillAll();
    });
  } else {
    if (ranks_.empty() || state_ == v1::ATTEMPT_PREPARING) *cancelled_ = true;
    machine_.loop.Post([self = shared_from_this()] { self->MaybeFinish(); });
  }
}

void AttemptRun::EndNow() {
  wordless_ = true;
  *cancelled_ = true;
  publications_.clear();
  KillAll();
  machine_.loop.Post([self = shared_from_this()] { self->MaybeFinish(); });
}

void AttemptRun::OnRecorded(int64_t step) {
  ReleaseOlderThan(step);
  v1::TrainerDown order;
  order.set_recorded_step(step);
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    if (rank->process != nullptr && !rank->process->ended()) rank->process->Order(order);
  }
}

void AttemptRun::HoldOutput(bool hold) {
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    if (rank->process != nullptr && !rank->process->ended()) rank->process->HoldOutput(hold);
  }
}

void AttemptRun::KillAll() {
  killed_ = true;
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    if (rank->process != nullptr && !rank->process->ended()) rank->process->Kill(SIGKILL);
  }
}

void AttemptRun::FailWith(Failed failed) {
  spdlog::warn("job {} attempt {}: {}", key().job_id(), key().attempt(), failed.message);
  if (!failed_) failed_ = std::move(failed);
  KillAll();
  machine_.loop.Post([self = shared_from_this()] { self->MaybeFinish(); });
}

// Called whenever something that the end waits for may be done.
void AttemptRun::MaybeFinish() {
  if (over_) return;
  for (const std::unique_ptr<Rank>& rank : ranks_) {
    if (rank->process != nullptr && !rank->process->ended()) return;
  }
  if (publishing_ || !publications_.empty()) return PumpPublications();
  const bool trained =
      !failed_ && !ranks_.empty() && std::all_of(ranks_.begin(), ranks_.end(), [](const std::unique_ptr<Rank>& rank) {
        return rank->ended && rank->evidence.finished && !rank->evidence.finished->stopped();
      });
  if (!failed_ && !stop_ && !wordless_ && !trained) {
    // Ranks that say "stopped" though nobody asked them to.
    const bool all_ended =
        !ranks_.empty() &&
        std::all_of(ranks_.begin(), ranks_.end(), [](const std::unique_ptr<Rank>& rank) { return rank->ended; });
    if (!all_ended) return;
    failed_ = Failed{v1::CRASH, "the trainer stopped before the end though it was not asked to"};
  }
  if (trained && !wordless_ && !result_wanted_) {
    result_wanted_ = true;
    if (machine_.env.Exists(absl::StrCat(OutDir(), "/result"))) return PublishResult();
  }
  Finish();
}

void AttemptRun::Finish() {
  over_ = true;
  *cancelled_ = true;
  machine_.loop.Cancel(grace_timer_);
  machine_.loop.Cancel(cause_timer_);
  if (!wordless_) {
    v1::AttemptEvent event = NewEvent();
    event.set_failed_rank(-1);
    if (result_wanted_ && !failed_) {
      state_ = v1::ATTEMPT_SUCCEEDED;
      if (result_.files_size() > 0) *event.mutable_result() = result_;
      ReleaseAll();
    } else if (stop_) {
      state_ = StateOfStop(stop_->reason());
      event.set_reason(stop_->reason());
      if (!stop_note_.empty()) {
        event.set_message(stop_note_);
      } else if (failed_ && failed_->end.signal != SIGKILL) {  // that was us
        event.set_message(failed_->message);
      }
    } else {
      state_ = v1::ATTEMPT_FAILED;
      event.set_reason(failed_->reason);
      event.set_message(failed_->message);
      event.set_failed_rank(failed_->rank);
    }
    if (failed_) {
      event.set_exit_code(failed_->end.exit_code);
      event.set_signal(failed_->end.signal);
    }
    event.set_state(state_);
    listener_.OnAttemptEvent(std::move(event));
  }
  listener_.OnEnded(key());
}

void AttemptRun::ReportState(v1::AttemptState state) {
  state_ = state;
  listener_.OnAttemptEvent(NewEvent());
}

v1::AttemptEvent AttemptRun::NewEvent() const {
  v1::AttemptEvent event;
  *event.mutable_key() = key();
  event.set_state(state_);
  event.set_failed_rank(-1);
  *event.mutable_time() =
      google::protobuf::util::TimeUtil::NanosecondsToTimestamp(absl::ToUnixNanos(machine_.loop.wall_time()));
  return event;
}

}  // namespace studio::worker
