// The rank's end of the socketpair to its agent (proto/studio/v1/trainer.proto).
//
//   AgentLink link(fd, [](AgentLink::Over why) { _exit(…); });
//   link.Send(StateEvent(v1::ATTEMPT_PREPARING));
//   link.Flush();     // before the process ends: what was sent is in the socket
//
// A thread reads orders, another writes events, so that training never waits for the agent. `over` runs on the reading
// thread, once: a rank whose epoch is over or whose agent is gone must end at once, whatever it is doing (nothing
// unrecorded counts, and files appear by rename alone). The descriptor is borrowed and must outlive the link.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "worker/trainer/agent_link/rank_link.h"

namespace studio {

class AgentLink : public RankLink {
 public:
  enum class Over { kEpochOver, kAgentGone };

  // Progress points that wait; more are dropped, oldest first.
  static constexpr size_t kMaxWaitingProgress = 64;

  AgentLink(int fd, std::function<void(Over)> over);
  // Writes what is waiting, then ends both threads.
  ~AgentLink() override;

  void Send(v1::TrainerUp event) override;
  Orders TakeOrders() override;
  // Waits until everything sent so far is written or the agent is gone.
  void Flush();

 private:
  void ReadOrders();
  void WriteEvents();

  const int fd_;
  const std::function<void(Over)> over_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<v1::TrainerUp> waiting_;
  size_t waiting_progress_ = 0;
  bool writing_ = false;
  bool closing_ = false;
  bool gone_ = false;
  int64_t sequence_ = 0;
  Orders orders_;
  std::thread reader_;
  std::thread writer_;
};

}  // namespace studio
