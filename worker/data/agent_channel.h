// studio-dataprep's end of the descriptor that it shares with the agent (proto/studio/v1/trainer.proto).
//
//   AgentChannel agent(fd);
//   agent.EndWithAgent();                        // the process ends when the agent goes or says stop
//   RETURN_IF_ERROR(agent.Send(event));          // numbers the event
//
// Send is for one thread.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "proto/studio/v1/trainer.pb.h"

namespace studio {

class AgentChannel {
 public:
  // Borrows fd; below 0, Send does nothing.
  explicit AgentChannel(int fd) : fd_(fd) {}

  // Starts the thread that watches for the end of the stream, Stop and EpochOver, and then ends the process at once:
  // what is half prepared lies under a temporary name, and the next try removes it.
  void EndWithAgent() const;

  absl::Status Send(v1::TrainerUp event);

 private:
  const int fd_;
  int64_t sequence_ = 0;
};

}  // namespace studio
