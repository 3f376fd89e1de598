// Which shapes of micro batches come again, and the recordings of those that do (recorder.h).
//
//   Replays replays(MakeRecorder(device));
//   replays.Run(shape, [&] { … });     // twice directly; recorded the third time, and replayed from then on
//
// A recording costs a run of the host and the memory of what the work allocates, so shapes that come once (packed rows)
// are never recorded, and there are at most kMostRecordings. Where memory is short for one, recording ends and the work
// goes on directly; where it is short for the work itself, all recordings are dropped, with their memory, and the
// exception goes on. One thread at a time.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "worker/trainer/planned/recorder.h"

namespace studio::planned {

// All that recorded work takes from a micro batch by value.
struct MicroShape {
  int64_t tokens = 0;
  int64_t learnt = 0;
  int64_t segments = 0;
  int64_t longest = 0;
  int attention = 0;
  // Where the attention needs them on the host; empty where it reads them on the device.
  std::vector<int32_t> cu_seqlens;
  auto operator<=>(const MicroShape&) const = default;  // NOLINT(modernize-use-nullptr): it is said of the default
};

class Replays {
 public:
  static constexpr int64_t kMostRecordings = 8;
  // Runs of a shape before it is recorded: the first lets libraries choose, the second tells that it comes again.
  static constexpr int64_t kDirectRuns = 2;

  // Null: everything directly.
  explicit Replays(std::unique_ptr<Recorder> recorder) : recorder_(std::move(recorder)) {}

  // `work` is kept where it is recorded: what it refers to outlives this. Not `recordable`: directly.
  void Run(const MicroShape& shape, bool recordable, const std::function<void()>& work);

  // As after a change of what recordings refer to.
  void Drop();

  int64_t recordings() const { return recordings_; }
  // Runs that were replays.
  int64_t replays() const { return replays_; }

 private:
  struct Entry {
    int64_t runs = 0;
    std::unique_ptr<Recorded> recorded;
  };

  Entry& EntryOf(const MicroShape& shape);
  void Record(Entry& entry, const std::function<void()>& work);

  std::unique_ptr<Recorder> recorder_;
  std::map<MicroShape, Entry> entries_;
  int64_t recordings_ = 0;
  int64_t replays_ = 0;
};

}  // namespace studio::planned
