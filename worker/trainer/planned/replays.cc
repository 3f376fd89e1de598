#include "worker/trainer/planned/replays.h"

#include <c10/util/Exception.h>

namespace studio::planned {
namespace {

// Of shapes that are counted.
constexpr size_t kMostShapes = 256;

}  // namespace

void Replays::Run(const MicroShape& shape, bool recordable, const std::function<void()>& work) {
  try {
    if (recorder_ == nullptr || !recordable) return work();
    Entry& entry = EntryOf(shape);
    if (entry.recorded == nullptr && entry.runs >= kDirectRuns && recordings_ < kMostRecordings) Record(entry, work);
    ++entry.runs;
    if (entry.recorded == nullptr) return work();
    ++replays_;
    entry.recorded->Replay();
  } catch (const c10::OutOfMemoryError&) {
    Drop();
    throw;
  }
}

void Replays::Drop() {
  entries_.clear();
  recordings_ = 0;
}

Replays::Entry& Replays::EntryOf(const MicroShape& shape) {
  if (entries_.size() >= kMostShapes && !entries_.contains(shape)) {
    std::erase_if(entries_, [](const auto& entry) { return entry.second.recorded == nullptr; });
  }
  return entries_[shape];
}

void Replays::Record(Entry& entry, const std::function<void()>& work) {
  bool short_of_memory = false;
  try {
    entry.recorded = recorder_->Record(work);
    ++recordings_;
  } catch (const c10::OutOfMemoryError&) {
    short_of_memory = true;
  }
  // Outside of the catch block: the exception may hold memory.
  if (!short_of_memory) return;
  for (auto& [shape, other] : entries_) other.recorded.reset();
  recordings_ = 0;
  recorder_.reset();
}

}  // namespace studio::planned
