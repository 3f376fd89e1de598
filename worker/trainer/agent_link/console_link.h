// The link of a trainer that runs alone: lines for a person, and Ctrl-C as the order to stop.
//
//   ConsoleLink link(std::cout, stop_requested);
//
// Every checkpoint counts once it is written: there is nobody else to record it. Send is thread-safe. `stop_requested`
// is set by a signal handler and outlives the link.
#pragma once

#include <atomic>
#include <mutex>
#include <optional>
#include <ostream>

#include "worker/trainer/agent_link/rank_link.h"

namespace studio {

class ConsoleLink : public RankLink {
 public:
  ConsoleLink(std::ostream& out, const std::atomic<bool>& stop_requested)
      : out_(out), stop_requested_(stop_requested) {}

  void Send(v1::TrainerUp event) override;
  Orders TakeOrders() override;

 private:
  std::ostream& out_;
  const std::atomic<bool>& stop_requested_;
  std::mutex mutex_;
  std::optional<int64_t> recorded_step_;
};

}  // namespace studio
