#include "tests/sim/sim_rank.h"

#include <google/protobuf/text_format.h>
#include <signal.h>

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/memory/process_end.h"
#include "common/status/macros.h"
#include "tests/sim/sim_artifacts.h"

namespace studio::sim {
namespace {

// The agent's handle: as a ChannelProcess, it kills what it is the last to know.
class Handle : public worker::RankProcess {
 public:
  explicit Handle(std::shared_ptr<SimRank> rank, const SimProcess& agent)
      : rank_(std::move(rank)), agent_(agent), life_(agent.life) {}
  ~Handle() override {
    const bool agent_lives = agent_.alive && agent_.life == life_;
    rank_->LoseAgent(agent_lives);
  }
  void Order(const v1::TrainerDown& order) override { rank_->Order(order); }
  void Kill(int signal) override {
    if (agent_.alive && agent_.life == life_) rank_->EndSoon(absl::Milliseconds(5), {0, signal});
  }
  void HoldOutput(bool) override {}
  int pid() const override { return rank_->pid(); }
  bool ended() const override { return rank_->ended(); }
  worker::KillWatch::Signs KillSigns() override { return {}; }

 private:
  const std::shared_ptr<SimRank> rank_;
  const SimProcess& agent_;
  const int64_t life_;
};

}  // namespace

std::string WeightsAt(const std::string& job_name, int64_t step) {
  return absl::StrCat("weights of ", job_name, " at step ", step);
}

SimRank::SimRank(RankHost& host, int pid, v1::TrainerTask task, bool prepares, worker::RankProcess::Callbacks callbacks)
    : host_(host), pid_(pid), task_(std::move(task)), prepares_(prepares), callbacks_(std::move(callbacks)) {
  process_.Begin();
}

void SimRank::Begin() {
  host_.history_.RankBegan(host_.worker_, task_);
  if (prepares_) return EndSoon(host_.random_.Ms(100, 1500), {});
  if (!task_.resume_dir().empty()) {
    const auto text = host_.files_.ReadFile(absl::StrCat(task_.resume_dir(), "/manifest.pb.txt"));
    v1::CheckpointManifest manifest;
    const bool parsed = text.ok() && google::protobuf::TextFormat::ParseFromString(*text, &manifest);
    const auto weights = host_.files_.ReadFile(absl::StrCat(task_.resume_dir(), "/weights"));
    if (!parsed || !weights.ok() || *weights != WeightsAt(task_.job().name(), manifest.step())) {
      host_.history_.Violation("RecordedOrNothing", absl::StrCat(task_.job_id(), " cannot resume from its checkpoint"));
    }
    step_ = saved_ = manifest.step();
  }
  host_.engine_.After(host_.random_.Ms(100, 2000), &process_, [self = shared_from_this()] {
    v1::TrainerUp up;
    up.set_state(v1::ATTEMPT_RUNNING);
    self->Say(std::move(up));
    self->Step();
  });
}

void SimRank::Say(v1::TrainerUp up) {
  if (!heard_) return;
  host_.engine_.At(host_.engine_.now(), &host_.agent_, [self = shared_from_this(), up = std::move(up)] {
    if (self->heard_) self->callbacks_.on_event(up);
  });
}

bool SimRank::Fails() {
  const JobScript& script = host_.scripts_.at(task_.job().name());
  if (task_.rank().rank() != 0) return false;
  v1::TrainerUp up;
  if (script.oom_above_micro > 0 && task_.plan().micro() > script.oom_above_micro) {
    up.mutable_failure()->set_reason(v1::DEVICE_OOM);
    up.mutable_failure()->set_message("CUDA out of memory");
    Say(std::move(up));
    EndSoon(absl::Milliseconds(20), {kExitDeviceOom, 0});
    return true;
  }
  if (task_.attempt() <= script.crashes && step_ >= task_.attempt()) {
    EndSoon(absl::ZeroDuration(), {0, SIGSEGV});
    return true;
  }
  return false;
}

void SimRank::Step() {
  if (ending_ || Fails()) return;
  if (stopping_) return Finish(/*stopped=*/true);
  const JobScript& script = host_.scripts_.at(task_.job().name());
  if (step_ >= script.steps) return Finish(/*stopped=*/false);
  host_.engine_.After(script.step_time, &process_, [self = shared_from_this(), &script] {
    ++self->step_;
    if (self->task_.rank().rank() == 0) {
      v1::TrainerUp up;
      up.mutable_progress()->set_step(self->step_);
      up.mutable_progress()->set_total_steps(script.steps);
      self->Say(std::move(up));
      if (self->step_ % script.save_steps == 0) self->WriteCheckpoint();
    }
    self->Step();
  });
}

void SimRank::WriteCheckpoint() {
  if (step_ <= saved_) return;
  const std::string folder = absl::StrCat(task_.out_dir(), "/checkpoints/step-", step_);
  const std::string weights = WeightsAt(task_.job().name(), step_);
  if (!host_.files_.MakeFolders(folder).ok() || !host_.files_.WriteFile(folder + "/weights", weights).ok()) return;
  saved_ = step_;
  v1::TrainerUp up;
  v1::CheckpointManifest& manifest = *up.mutable_checkpoint();
  manifest.set_step(step_);
  *manifest.mutable_plan() = task_.plan();
  v1::FileRef& file = *manifest.add_shards()->mutable_file();
  file.set_path("weights");
  file.set_size_bytes(static_cast<int64_t>(weights.size()));
  file.set_sha256(HashOf(weights));
  Say(std::move(up));
}

void SimRank::Finish(bool stopped) {
  if (task_.rank().rank() == 0 && !(stopped && discard_)) {
    WriteCheckpoint();
    const std::string folder = absl::StrCat(task_.out_dir(), "/result");
    if (!stopped && (!host_.files_.MakeFolders(folder).ok() ||
                     !host_.files_.WriteFile(folder + "/adapter", WeightsAt(task_.job().name(), step_)).ok())) {
      return EndSoon(absl::ZeroDuration(), {kExitCrash, 0});
    }
  }
  v1::TrainerUp up;
  up.mutable_finished()->set_stopped(stopped);
  Say(std::move(up));
  EndSoon(absl::Milliseconds(30), {});
}

void SimRank::Order(const v1::TrainerDown& order) {
  if (!order.has_stop() || prepares_ || host_.scripts_.at(task_.job().name()).deaf) return;
  host_.engine_.After(absl::Milliseconds(1), &process_, [self = shared_from_this(), discard = order.stop().discard()] {
    self->stopping_ = true;
    self->discard_ = discard;
  });
}

void SimRank::EndSoon(absl::Duration after, ProcessEnd end) {
  ending_ = true;
  host_.engine_.After(after, &process_, [self = shared_from_this(), end] {
    self->Vanish();
    if (!self->heard_) return;
    self->host_.engine_.At(self->host_.engine_.now(), &self->host_.agent_, [self, end] {
      if (self->heard_) self->callbacks_.on_end(end);
    });
  });
}

void SimRank::LoseAgent(bool agent_lives) {
  if (!std::exchange(heard_, false) || ended()) return;
  // End of file on its socket, or the kill of the handle's destructor.
  EndSoon(agent_lives ? absl::Milliseconds(5) : host_.random_.Ms(10, 3000), {0, SIGKILL});
}

void SimRank::Vanish() {
  if (ended()) return;
  process_.Kill();
  host_.history_.RankEnded(host_.worker_, task_);
  host_.ranks_.erase(pid_);
}

absl::StatusOr<std::unique_ptr<worker::RankProcess>> RankHost::Launch(LaunchSpec spec,
                                                                      worker::RankProcess::Callbacks callbacks) {
  ASSIGN_OR_RETURN(const std::string text, files_.ReadFile(spec.argv.back()));
  v1::TrainerTask task;
  if (!google::protobuf::TextFormat::ParseFromString(text, &task)) return absl::InternalError("no task");
  const int pid = next_pid_++;
  const auto rank = std::make_shared<SimRank>(*this, pid, std::move(task), absl::EndsWith(spec.argv[0], "prep"),
                                              std::move(callbacks));
  ranks_[pid] = rank;
  rank->Begin();
  return std::make_unique<Handle>(rank, agent_);
}

void RankHost::LoseAgent() {
  for (const auto& [pid, rank] : std::map(ranks_)) rank->LoseAgent(/*agent_lives=*/false);
}

void RankHost::VanishAll() {
  for (const auto& [pid, rank] : std::map(ranks_)) rank->Vanish();
}

void RankHost::Pause(absl::Time until) {
  for (const auto& [pid, rank] : ranks_) rank->process().paused_until = std::max(rank->process().paused_until, until);
}

void RankHost::KillOne(int64_t which) {
  if (ranks_.empty()) return;
  std::next(ranks_.begin(), which % static_cast<int64_t>(ranks_.size()))
      ->second->EndSoon(absl::ZeroDuration(), {0, SIGKILL});
}

}  // namespace studio::sim
