// A process that speaks the trainer's protocol (a rank, or data preparation), seen from the loop, and what starts one.
// ChannelProcess and ChannelLauncher (channel_process.h) are the real ones.
//
//   ASSIGN_OR_RETURN(std::unique_ptr<RankProcess> rank, launcher.Launch(spec, {.on_event = …, .on_end = …}));
//   rank->Order(stop);
//
// on_end comes last and once: everything that the process said or printed before came earlier. It may not destroy the
// RankProcess that calls it; post that to the loop.
// Threading: belongs to the loop's thread. Destroying a RankProcess kills its process group.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/env/process.h"
#include "proto/studio/v1/trainer.pb.h"
#include "worker/agent/kill_watch.h"
#include "worker/agent/store_socket.h"

namespace studio::worker {

class RankProcess {
 public:
  struct Callbacks {
    std::function<void(const v1::TrainerUp&)> on_event;
    std::function<void(std::string_view)> on_output;
    std::function<void(const ProcessEnd&)> on_end;
  };

  virtual ~RankProcess() = default;

  // Never waits: an order to a process that does not read is lost, and a grace period deals with it.
  virtual void Order(const v1::TrainerDown& order) = 0;
  virtual void Kill(int signal) = 0;
  // While held, nothing that it prints is read: once its pipe is full it waits. Its end is noticed all the same.
  virtual void HoldOutput(bool hold) = 0;
  virtual int pid() const = 0;
  virtual bool ended() const = 0;
  // Once it has ended: whether the kernel killed it for memory.
  virtual KillWatch::Signs KillSigns() = 0;
};

class RankLauncher {
 public:
  virtual ~RankLauncher() = default;
  // The spec's channel and output are set here. NotFound or PermissionDenied where the program cannot be started.
  virtual absl::StatusOr<std::unique_ptr<RankProcess>> Launch(LaunchSpec spec, RankProcess::Callbacks callbacks) = 0;
  // Where the ranks of an attempt meet. Unavailable where the machine gives no socket.
  virtual absl::StatusOr<StoreSocket> ListenForStore() = 0;
};

}  // namespace studio::worker
