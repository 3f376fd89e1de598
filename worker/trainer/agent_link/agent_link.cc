#include "worker/trainer/agent_link/agent_link.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "common/framing/framing.h"

namespace studio {

AgentLink::AgentLink(int fd, std::function<void(Over)> over)
    : fd_(fd), over_(std::move(over)), reader_([this] { ReadOrders(); }), writer_([this] { WriteEvents(); }) {}

AgentLink::~AgentLink() {
  Flush();
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  writer_.join();
  shutdown(fd_, SHUT_RD);  // wakes the reader
  reader_.join();
}

void AgentLink::Send(v1::TrainerUp event) {
  std::lock_guard lock(mutex_);
  if (event.has_progress() && ++waiting_progress_ > kMaxWaitingProgress) {
    const auto oldest =
        std::find_if(waiting_.begin(), waiting_.end(), [](const v1::TrainerUp& e) { return e.has_progress(); });
    waiting_.erase(oldest);
    --waiting_progress_;
  }
  waiting_.push_back(std::move(event));
  changed_.notify_all();
}

Orders AgentLink::TakeOrders() {
  std::lock_guard lock(mutex_);
  return std::exchange(orders_, {});
}

void AgentLink::Flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return gone_ || (waiting_.empty() && !writing_); });
}

void AgentLink::WriteEvents() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return gone_ || closing_ || !waiting_.empty(); });
    if (gone_ || waiting_.empty()) return;
    v1::TrainerUp event = std::move(waiting_.front());
    waiting_.pop_front();
    if (event.has_progress()) --waiting_progress_;
    // Numbered as it leaves, so that a dropped point leaves no gap.
    event.set_sequence(++sequence_);
    writing_ = true;
    lock.unlock();
    const absl::Status status = WriteFrame(fd_, event);
    lock.lock();
    writing_ = false;
    // The reader notices the end of file and says so; here it only means that nobody listens.
    if (!status.ok()) gone_ = true;
    changed_.notify_all();
  }
}

void AgentLink::ReadOrders() {
  FrameReader reader(fd_);
  Over why = Over::kAgentGone;
  v1::TrainerDown order;
  while (reader.Read(order).ok()) {
    std::lock_guard lock(mutex_);
    if (order.has_stop()) {
      orders_.stop = true;
      orders_.discard |= order.stop().discard();
    } else if (order.has_checkpoint()) {
      orders_.checkpoint = true;
    } else if (order.has_recorded_step()) {
      orders_.recorded_step = std::max(orders_.recorded_step.value_or(0), order.recorded_step());
    } else if (order.has_epoch_over()) {
      why = Over::kEpochOver;
      break;
    }
  }
  {
    std::lock_guard lock(mutex_);
    if (closing_) return;
    gone_ = true;
    changed_.notify_all();
  }
  over_(why);
}

}  // namespace studio
