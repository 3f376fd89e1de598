// A link that also writes each event as a line: what `studioctl logs` shows of a rank.
//
//   LoggedLink logged(agent_link, std::cerr);
//
// Send is thread-safe. Both arguments outlive it.
#pragma once

#include <mutex>
#include <ostream>
#include <string>
#include <utility>

#include "worker/trainer/agent_link/describe_event.h"
#include "worker/trainer/agent_link/rank_link.h"

namespace studio {

class LoggedLink : public RankLink {
 public:
  LoggedLink(RankLink& link, std::ostream& log) : link_(link), log_(log) {}

  void Send(v1::TrainerUp event) override {
    std::lock_guard lock(mutex_);
    if (const std::string line = DescribeEvent(event); !line.empty()) log_ << line << std::endl;
    link_.Send(std::move(event));
  }
  Orders TakeOrders() override { return link_.TakeOrders(); }

 private:
  RankLink& link_;
  std::ostream& log_;
  std::mutex mutex_;
};

}  // namespace studio
