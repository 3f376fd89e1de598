// One process that speaks the trainer's protocol (a rank, or data preparation), seen from the event loop.
//
//   RankProcess rank(loop, std::move(process), {.on_event = …, .on_output = …, .on_end = …});
//   rank.Order(stop);
//
// on_end comes last and once: everything that the process said or printed before came earlier. It may not destroy the
// RankProcess that calls it; post that to the loop.
// Threading: belongs to the loop's thread. The loop must outlive it. Destroying it kills the process group.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "common/env/process.h"
#include "common/framing/framing.h"
#include "proto/studio/v1/trainer.pb.h"
#include "worker/agent/event_loop.h"

namespace studio::worker {

class RankProcess {
 public:
  struct Callbacks {
    std::function<void(const v1::TrainerUp&)> on_event;
    std::function<void(std::string_view)> on_output;
    std::function<void(const ProcessEnd&)> on_end;
  };

  RankProcess(EventLoop& loop, std::unique_ptr<Process> process, Callbacks callbacks);
  ~RankProcess();

  // Never waits: an order to a process that does not read is lost, and a grace period deals with it.
  void Order(const v1::TrainerDown& order);
  void Kill(int signal) { process_->Kill(signal); }
  int pid() const { return process_->pid(); }
  bool ended() const { return ended_; }

 private:
  bool ReadChannel();
  bool ReadOutput();
  void OnEnd();
  void Unwatch(bool& watched, int fd);

  EventLoop& loop_;
  const std::unique_ptr<Process> process_;
  const Callbacks callbacks_;
  FrameDecoder decoder_;
  bool watching_channel_ = false;
  bool watching_output_ = false;
  bool watching_end_ = false;
  bool ended_ = false;
};

}  // namespace studio::worker
