// RankProcess over a real child: its socketpair, its output and its end, watched by the event loop.
//
//   ChannelLauncher launcher(loop, env, posix_launcher);
//
// Threading: belongs to the loop's thread. Loop, Env and Launcher must outlive it.
#pragma once

#include <memory>

#include "common/env/env.h"
#include "common/framing/framing.h"
#include "worker/agent/event_loop.h"
#include "worker/agent/rank_process.h"

namespace studio::worker {

class ChannelProcess : public RankProcess {
 public:
  // `watch` was made before the launch.
  ChannelProcess(EventLoop& loop, std::unique_ptr<Process> process, KillWatch watch, Callbacks callbacks);
  ~ChannelProcess() override;

  void Order(const v1::TrainerDown& order) override;
  void Kill(int signal) override { process_->Kill(signal); }
  void HoldOutput(bool hold) override;
  int pid() const override { return process_->pid(); }
  bool ended() const override { return ended_; }
  KillWatch::Signs KillSigns() override { return watch_.Look(pid()); }

 private:
  bool ReadChannel();
  bool ReadOutput();
  void OnEnd();
  void Unwatch(bool& watched, int fd);

  EventLoop& loop_;
  const std::unique_ptr<Process> process_;
  KillWatch watch_;
  const Callbacks callbacks_;
  FrameDecoder decoder_;
  bool watching_channel_ = false;
  bool watching_output_ = false;
  bool output_over_ = false;
  bool watching_end_ = false;
  bool ended_ = false;
};

class ChannelLauncher : public RankLauncher {
 public:
  ChannelLauncher(EventLoop& loop, Env& env, Launcher& launcher) : loop_(loop), env_(env), launcher_(launcher) {}

  absl::StatusOr<std::unique_ptr<RankProcess>> Launch(LaunchSpec spec, RankProcess::Callbacks callbacks) override;
  absl::StatusOr<StoreSocket> ListenForStore() override { return worker::ListenForStore(); }

 private:
  EventLoop& loop_;
  Env& env_;
  Launcher& launcher_;
};

}  // namespace studio::worker
