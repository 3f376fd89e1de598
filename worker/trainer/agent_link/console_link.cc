#include "worker/trainer/agent_link/console_link.h"

#include <utility>

#include "worker/trainer/agent_link/describe_event.h"

namespace studio {

void ConsoleLink::Send(v1::TrainerUp event) {
  std::lock_guard lock(mutex_);
  if (event.has_checkpoint()) recorded_step_ = event.checkpoint().step();
  if (const std::string line = DescribeEvent(event); !line.empty()) out_ << line << std::endl;
}

Orders ConsoleLink::TakeOrders() {
  std::lock_guard lock(mutex_);
  Orders orders;
  orders.stop = stop_requested_;
  orders.recorded_step = std::exchange(recorded_step_, std::nullopt);
  return orders;
}

}  // namespace studio
