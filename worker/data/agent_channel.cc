#include "worker/data/agent_channel.h"

#include <unistd.h>

#include <thread>
#include <utility>

#include "common/framing/framing.h"

namespace studio {

void AgentChannel::EndWithAgent() const {
  if (fd_ < 0) return;
  std::thread([fd = fd_] {
    FrameReader reader(fd);
    v1::TrainerDown order;
    while (reader.Read(order).ok()) {
      if (order.has_stop() || order.has_epoch_over()) break;
    }
    _exit(0);  // no destructors: another thread is at work
  }).detach();
}

absl::Status AgentChannel::Send(v1::TrainerUp event) {
  if (fd_ < 0) return absl::OkStatus();
  event.set_sequence(++sequence_);
  return WriteFrame(fd_, event);
}

}  // namespace studio
