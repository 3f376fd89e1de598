#include "tests/sim/engine.h"

#include <algorithm>
#include <utility>

namespace studio::sim {

void Engine::At(absl::Time time, SimProcess* process, Task task) {
  heap_.push_back({std::max(time, now_), next_number_++, process, process ? process->life : 0, std::move(task)});
  std::push_heap(heap_.begin(), heap_.end(), Later);
}

void Engine::Clear() {
  // What an event owned may schedule another as it goes.
  while (!heap_.empty()) std::exchange(heap_, {}).clear();
}

void Engine::RunUntil(absl::Time end, const std::function<bool()>& done) {
  while (!heap_.empty() && heap_.front().time <= end) {
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    Event event = std::move(heap_.back());
    heap_.pop_back();
    now_ = event.time;
    if (SimProcess* process = event.process) {
      if (!process->alive || process->life != event.life) continue;
      if (now_ < process->paused_until) {
        event.time = process->paused_until;  // with its number: the order stays
        heap_.push_back(std::move(event));
        std::push_heap(heap_.begin(), heap_.end(), Later);
        continue;
      }
    }
    ++events_;
    try {
      event.task();
    } catch (const Crash&) {
      if (event.process != nullptr && event.process->on_crash) event.process->on_crash();
    }
    if (done && done()) return;
  }
  if (heap_.empty() || heap_.front().time > end) now_ = std::max(now_, end);
}

}  // namespace studio::sim
